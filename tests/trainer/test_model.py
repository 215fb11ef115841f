"""The classifier's shape, its layer groups, freezing, and where weights come from."""

import lzma
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from bearloop.store import open_store
from tests.trainer.versions import recipe, resnet
from trainer.errors import InputError
from trainer.model import build_classifier, freeze_to
from trainer.weights import load_weights


@pytest.fixture(scope="module")
def state_dict() -> dict[str, Tensor]:
    shapes = torchvision.models.resnet18(weights=None).state_dict()
    # Each tensor is one number of its own: told apart as well as random ones, and quick to pack.
    return {key: torch.full_like(v, place) for place, (key, v) in enumerate(shapes.items())}


def test_features_and_head_make_the_logits() -> None:
    model = build_classifier(resnet(), 3, None).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.features(pixels)
        feature_map = model.body(pixels)
        assert features.shape == (2, 1024)
        assert torch.equal(features[:, :512], feature_map.amax((2, 3)))
        torch.testing.assert_close(features[:, 512:], feature_map.mean((2, 3)))
        assert torch.equal(model.head(features), model(pixels))


def test_the_head_is_fastais() -> None:
    head = build_classifier(resnet(dropout=0.5), 3, None).head
    assert [type(module).__name__ for module in head] == [
        "BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear",
    ]  # fmt: skip
    assert (head[1].p, head[5].p) == (0.25, 0.5)
    assert (head[2].in_features, head[2].out_features, head[6].out_features) == (1024, 512, 3)


def test_layer_groups_are_fastais_and_hold_every_weight_once() -> None:
    model = build_classifier(resnet(), 3, None)
    groups = model.layer_groups()
    assert [len(group) for group in groups] == [6, 2, 1]
    grouped = [p for group in groups for module in group for p in module.parameters()]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))


def test_a_frozen_body_keeps_weights_and_batchnorm_statistics() -> None:
    model = build_classifier(resnet(), 3, None)
    freeze_to(model, -1)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(key.startswith("head.") for key in changed)
    assert all(parameter.grad is None for parameter in model.body.parameters())


def test_unfreezing_lets_batchnorm_learn_again() -> None:
    model = build_classifier(resnet(), 3, None)
    model.train()
    freeze_to(model, 1)
    assert not model.body[1].training
    assert model.body[7].training
    freeze_to(model, 0)
    assert model.body[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_group_that_is_not_there_cannot_be_frozen_to() -> None:
    with pytest.raises(InputError, match="3 layer groups") as caught:
        freeze_to(build_classifier(resnet(), 3, None), 3)
    assert caught.value.problem.code == "frozen_to_out_of_range"


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_every_resnet_builds_and_answers(name: str) -> None:
    with torch.device("meta"):
        model = build_classifier(recipe(model=name), 4, None)
        assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 4)


def test_an_unknown_model_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(InputError, match="no model 'resnet19'") as caught:
        build_classifier(recipe(model="resnet19"), 3, None)
    problem = caught.value.problem
    assert (problem.code, problem.field) == ("unknown_model", "recipe.model")
    assert "resnet18, " in (problem.way_out or "")


def test_the_means_alone_may_be_pooled() -> None:
    model = build_classifier(resnet(pool="average"), 3, None).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.features(pixels)
        torch.testing.assert_close(features, model.body(pixels).mean((2, 3)))
    assert (model.feature_width, features.shape) == (512, (2, 512))


@pytest.mark.parametrize("suffix", [".pth", ".pth.xz", ".safetensors"])
def test_weights_from_a_file_are_in_the_body(
    tmp_path: Path, state_dict: dict[str, Tensor], suffix: str
) -> None:
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state_dict, path)
    elif suffix == ".pth":
        torch.save(state_dict, path)
    else:
        with lzma.open(path, "wb", preset=0) as file:
            torch.save(state_dict, file)
    named = resnet(weights=path.as_uri())
    model = build_classifier(named, 3, load_weights(named))
    first = model.body[0]
    assert isinstance(first, nn.Conv2d)
    assert torch.equal(first.weight, state_dict["conv1.weight"])
    last = dict(model.body[7].named_parameters())["1.conv2.weight"]
    assert torch.equal(last, state_dict["layer4.1.conv2.weight"])


def test_weights_from_s3_are_in_the_body(s3_url: str, state_dict: dict[str, Tensor]) -> None:
    kept = safetensors.torch.save(state_dict)
    open_store(f"{s3_url}/weights").put("resnet18.safetensors", kept)
    named = resnet(weights=f"{s3_url}/weights/resnet18.safetensors")
    first = build_classifier(named, 3, load_weights(named)).body[0]
    assert isinstance(first, nn.Conv2d)
    assert torch.equal(first.weight, state_dict["conv1.weight"])
    for lacking in (f"{s3_url}/weights/resnet34.pth", "s3://nobody/resnet18.pth"):
        with pytest.raises(InputError, match=lacking) as caught:
            load_weights(resnet(weights=lacking))
        assert caught.value.problem.code == "weights_unavailable"


def test_imagenet_is_what_torchvision_downloads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state_dict: dict[str, Tensor]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Where a download would end: nobody answers here.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    wanted = resnet(weights="imagenet")
    with pytest.raises(InputError, match="download failed") as caught:
        load_weights(wanted)
    assert caught.value.problem.code == "weights_unavailable"
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict, place)
    found = load_weights(wanted)
    assert found is not None
    assert torch.equal(found["conv1.weight"], state_dict["conv1.weight"])


def test_none_is_the_only_way_to_random_weights() -> None:
    assert load_weights(resnet(weights="none")) is None
    with pytest.raises(InputError, match="no such kind of weights"):
        load_weights(resnet(weights="imagnet"))


def test_missing_weights_name_the_address_and_the_way_out(tmp_path: Path) -> None:
    address = (tmp_path / "gone.pth").as_uri()
    with pytest.raises(InputError) as caught:
        load_weights(resnet(weights=address))
    problem = caught.value.problem
    assert (problem.code, problem.field, problem.value) == (
        "weights_unavailable", "recipe.weights", address,
    )  # fmt: skip
    assert "train from scratch" in (problem.way_out or "")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(b"not a state dict")
    with pytest.raises(InputError, match="no state dict"):
        load_weights(resnet(weights=path.as_uri()))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save(print, path)
    with pytest.raises(InputError, match="no state dict"):
        load_weights(resnet(weights=path.as_uri()))


def test_weights_of_another_model_are_refused_by_key(state_dict: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"layer1\.2\.conv1\.weight"):
        build_classifier(recipe(model="resnet34"), 3, state_dict)
    wrong = {**state_dict, "layer3.0.conv1.weight": torch.zeros(1, 2)}
    with pytest.raises(InputError, match=r"layer3\.0\.conv1\.weight.*expected"):
        build_classifier(resnet(), 3, wrong)
