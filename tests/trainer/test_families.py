"""torchvision's classifiers taken apart: what a family's data says is what its networks do."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import GoogLeNet, Inception3, VisionTransformer
from torchvision.models import get_model_weights as weights_of

from bearloop.contract.export_sizes import PARAMETERS, ROOM
from bearloop.contract.models import MODELS
from bearloop.contract.preprocess import LEAST_SIZE, Preprocess
from tests.trainer.versions import recipe, whole
from trainer.errors import InputError
from trainer.evaluate import softmax
from trainer.export import check_onnx, to_onnx
from trainer.families import ClassToken, Tokens, family_of
from trainer.model import Classifier, build_classifier, freeze_to
from trainer.optimiser import new_optimiser
from trainer.weights import put_weights


class OnMeta(TorchFunctionMode):
    """Networks whose weights have shapes and no numbers; RegNets compute their widths as ever.

    What a network computes as it is made (a Swin's tables) follows it to the device afterwards.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Put new weights on the meta device."""
        made = {"device": "meta"} if func in (torch.empty, torch.ones, torch.zeros) else {}
        return func(*args, **{**(kwargs or {}), **made})


def average(classifier: str) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda network, found: network.get_submodule(classifier)(found.mean((2, 3)))


def flat(network: nn.Module, found: Tensor) -> Tensor:
    return network.classifier(network.avgpool(found).flatten(1))  # type: ignore[operator]


QUICK: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "resnext50_32x4d": average("fc"),
    "mobilenet_v2": average("classifier"),
    "mobilenet_v3_small": average("classifier"),
    "efficientnet_b0": average("classifier"),
    "convnext_tiny": lambda n, found: n.classifier(found.mean((2, 3), keepdim=True)),
    "densenet121": average("classifier"),
    "squeezenet1_1": lambda n, found: n.classifier(found).flatten(1),
    "vit_b_32": lambda n, found: n.heads(found),
}
"""What torchvision's networks do behind their bodies."""
SLOW = {
    "alexnet": flat,
    "googlenet": average("fc"),
    "inception_v3": average("fc"),
    "maxvit_t": lambda n, found: n.classifier(found),
    "mnasnet0_5": average("classifier"),
    "mobilenet_v3_large": average("classifier"),
    "regnet_y_400mf": average("fc"),
    "resnet18": average("fc"),
    "shufflenet_v2_x0_5": average("fc"),
    "swin_t": average("head"),
    "swin_v2_t": average("head"),
    "vgg11": flat,
    "vgg11_bn": flat,
    "vit_l_32": lambda n, found: n.heads(found),
    "wide_resnet50_2": average("fc"),
}
MEASURED = ("densenet121", "squeezenet1_1", "vit_b_32", "mobilenet_v3_small")
LONG = pytest.mark.long
ALL = [*QUICK, *(pytest.param(name, marks=LONG) for name in SLOW)]
UNSTABLE = re.compile(r"Adaptive(Avg|Max)Pool|Upsample|ReflectionPad|ReplicationPad|GridSampler")
"""Gradients that have no deterministic kernel on CUDA."""


def classifier_of(name: str, **changes: object) -> Classifier:
    size = MODELS[name].least
    return build_classifier(
        recipe(model=name, preprocess=Preprocess(size=size), **changes), 3, None
    )


def network_of(name: str, size: int) -> nn.Module:
    return family_of(name).network(name, size=size)


def test_the_contract_lists_torchvisions_classifiers() -> None:
    assert set(MODELS) == set(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize("name", MODELS)
def test_the_contract_counts_what_the_bodies_hold(name: str) -> None:
    with OnMeta():
        body = family_of(name).body(network_of(name, 224))
    assert sum(tensor.numel() for tensor in body.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_the_contract_has_the_weights_statistics(name: str) -> None:
    expected = weights_of(name).DEFAULT.transforms()
    model = MODELS[name]
    if name in ("googlenet", "inception_v3"):
        return
    assert (list(model.mean), list(model.std)) == (expected.mean, expected.std)


@pytest.mark.parametrize("kind", [GoogLeNet, Inception3])
def test_what_torchvision_changes_inside_the_network_is_in_the_statistics(
    kind: type[nn.Module],
) -> None:
    name = {GoogLeNet: "googlenet", Inception3: "inception_v3"}[kind]
    standard = weights_of(name).DEFAULT.transforms()
    pixels = torch.rand(2, 3, 4, 4)
    network = kind.__new__(kind)
    nn.Module.__init__(network)
    network.transform_input = True
    expected = network._transform_input(channels(pixels, standard.mean, standard.std))  # type: ignore[operator]
    found = channels(pixels, MODELS[name].mean, MODELS[name].std)
    torch.testing.assert_close(found, expected)


def channels(pixels: Tensor, mean: object, std: object) -> Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize("name", ALL)
def test_the_body_is_the_network_up_to_its_pool(name: str) -> None:
    torch.manual_seed(1)
    size = MODELS[name].least
    network = network_of(name, size).eval()
    behind = (QUICK | SLOW)[name]
    for key, weight in network.named_parameters():
        if key.startswith(family_of(name).classifier):
            nn.init.normal_(weight)  # some begin at zero
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        found = behind(network, family_of(name).body(network)(pixels))
        expected = network(pixels)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ALL)
def test_every_weight_is_in_one_group_and_gets_a_gradient(name: str) -> None:
    model = classifier_of(name).train()
    groups = model.layer_groups()
    grouped = [id(p) for group in groups for module in group for p in module.parameters()]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert all(any(True for module in group for _ in module.parameters()) for group in groups)
    size = MODELS[name].least
    loss = model(torch.randn(3, 3, size, size)).square().sum()
    operations = {type(node).__name__ for node in graph(loss)}
    assert not [operation for operation in operations if UNSTABLE.match(operation)]
    loss.backward()
    # One without would keep the processes of a shared run waiting for it.
    assert [key for key, weight in model.named_parameters() if weight.grad is None] == []


def graph(loss: Tensor) -> Iterator[object]:
    seen, rest = set(), [loss.grad_fn]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            rest += [below for below, _ in node.next_functions]


@pytest.mark.parametrize("name", ALL)
def test_a_frozen_body_is_still(name: str) -> None:
    model = classifier_of(name)
    freeze_to(model, -1)
    model.train()
    assert not any(module.training for part in model.body for module in part.modules())
    before = {key: tensor.clone() for key, tensor in model.body.state_dict().items()}
    size = MODELS[name].least
    pixels = torch.randn(3, 3, size, size)
    assert torch.equal(model.features(pixels), model.features(pixels))
    model(pixels).sum().backward()
    assert all(parameter.grad is None for parameter in model.body.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.body.state_dict().items())


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_b_32", "mobilenet_v3_small"])
def test_matrices_alone_are_decayed(name: str) -> None:
    model = classifier_of(name)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    modules = dict(model.named_modules())
    decayed = {
        names[id(parameter)]
        for group in new_optimiser(model, whole(1, weight_decay=0.1)).param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    expected = {
        f"{key}.{weight}"
        for key, module in modules.items()
        for weight in ("weight", "in_proj_weight")
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention)
        and getattr(module, weight, None) is not None
    }
    assert decayed == expected


def test_a_transformers_head_sees_the_class_token() -> None:
    model = classifier_of("vit_b_32")
    assert isinstance(model.body[0], Tokens)
    assert isinstance(model.body[-1], ClassToken)
    assert model.feature_width == 768
    assert [len(group) for group in model.layer_groups()] == [7, 8, 1]


@pytest.mark.parametrize("name", ["mobilenet_v2", "convnext_tiny", "efficientnet_b0"])
def test_a_familys_weights_are_in_its_body(name: str) -> None:
    size = MODELS[name].least
    given = network_of(name, size).state_dict()
    family = family_of(name)
    network = network_of(name, size)
    put_weights(network, given, recipe=recipe(model=name), family=family)
    for key, tensor in network.state_dict().items():
        if not key.startswith(family.classifier):
            assert torch.equal(tensor, given[key]), key


@pytest.mark.parametrize(
    ("name", "today", "then"),
    [
        ("densenet121", r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2"),
        ("vit_b_32", r"\.mlp\.0\.", ".mlp.linear_1."),
        ("resnet18", r"num_batches_tracked", "num_batches_tracked"),
    ],
)
def test_weights_of_older_files_fit(name: str, today: str, then: str) -> None:
    network = network_of(name, 32)
    given = {
        re.sub(today, then, key).replace(".mlp.3.", ".mlp.linear_2."): torch.full_like(v, place)
        for place, (key, v) in enumerate(network.state_dict().items())
        if not key.endswith("num_batches_tracked")
    }
    put_weights(network, given, recipe=recipe(model=name), family=family_of(name))
    for place, (key, tensor) in enumerate(network.state_dict().items()):
        if not key.startswith(family_of(name).classifier) and "num_batches" not in key:
            assert bool((tensor == place).all()), key


def test_embeddings_of_places_are_stretched_to_the_size() -> None:
    given = network_of("vit_b_32", 224).state_dict()
    network = network_of("vit_b_32", 64)
    assert isinstance(network, VisionTransformer)
    put_weights(network, given, recipe=recipe(model="vit_b_32"), family=family_of("vit_b_32"))
    found, expected = network.encoder.pos_embedding, given["encoder.pos_embedding"]
    assert found.shape == (1, 5, 768)
    # The class token's stays; the corners' places are corners still.
    assert torch.equal(found[:, 0], expected[:, 0])
    torch.testing.assert_close(found[:, [1, 2, 3, 4]], expected[:, [1, 7, 43, 49]])


def test_a_transformers_weights_of_another_width_are_refused() -> None:
    network = network_of("vit_b_32", 32)
    given = {**network.state_dict(), "encoder.pos_embedding": torch.zeros(1, 7, 768)}
    with pytest.raises(InputError, match="not a perfect square") as caught:
        put_weights(network, given, recipe=recipe(model="vit_b_32"), family=family_of("vit_b_32"))
    assert caught.value.problem.code == "weights_unfit"


def test_the_other_classifiers_of_torchvisions_training_are_no_part_of_the_body() -> None:
    trained = GoogLeNet(init_weights=False).state_dict()
    assert any(key.startswith("aux2.") for key in trained)
    network = network_of("googlenet", 224)
    put_weights(network, trained, recipe=recipe(model="googlenet"), family=family_of("googlenet"))
    assert torch.equal(
        network.state_dict()["inception5b.branch1.conv.weight"],
        trained["inception5b.branch1.conv.weight"],
    )


def test_a_size_that_a_model_cannot_take_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of 16") as caught:
        build_classifier(recipe(model="vit_b_16", preprocess=Preprocess(size=40)), 3, None)
    problem = caught.value.problem
    assert (problem.code, problem.field) == ("model_misfit", "recipe.preprocess.size")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in MEASURED else LONG) for n in MODELS]
)
def test_the_smallest_size_is_what_the_model_can_take(name: str) -> None:
    least = MODELS[name].least
    with OnMeta():
        bodies = {
            size: family_of(name).body(network_of(name, size)).eval().to("meta")
            for size in {least, 224 if MODELS[name].one_size else least}
        }
    for size, body in bodies.items():
        assert body(torch.empty(2, 3, size, size, device="meta")).numel()
    if least > LEAST_SIZE and not MODELS[name].one_size:
        with pytest.raises(RuntimeError):
            body(torch.empty(2, 3, least - 1, least - 1, device="meta"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in MEASURED else LONG) for n in MODELS]
)
def test_the_second_group_begins_at_a_sixteenth_of_the_side(name: str) -> None:
    if name.startswith(("alexnet", "inception", "squeezenet", "vgg", "vit")):
        return
    side, second = 224, family_of(name).second
    with OnMeta():
        body = family_of(name).body(network_of(name, side)).eval().to("meta")
    first = body[:second](torch.empty(2, 3, side, side, device="meta"))
    # A Swin's maps have their channels last.
    assert side // 8 in first.shape[1:]
    assert side // 16 in body[second](first).shape[1:]


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in [*QUICK, *SLOW] if name != "resnet18"])
def test_the_onnx_file_of_every_family_answers_alike(name: str) -> None:
    torch.manual_seed(3)
    size = MODELS[name].least
    model = classifier_of(name).eval()
    inputs = torch.randn(4, 3, size, size)
    with torch.inference_mode():
        answers = softmax(model(inputs).numpy())
    data = to_onnx(model, size=size)
    check_onnx(data, model, inputs=inputs.numpy(), reported=answers)
    assert 0 < len(data) - 4 * PARAMETERS[name] < ROOM


@pytest.mark.parametrize("name", ["vit_h_14", "regnet_y_128gf"])
def test_a_model_that_cannot_be_exported_is_refused_before_it_is_built(name: str) -> None:
    with pytest.raises(InputError, match="one ends at 2 GiB") as caught:
        build_classifier(recipe(model=name, preprocess=Preprocess(size=224)), 3, None)
    assert (caught.value.problem.code, caught.value.problem.field) == (
        "model_misfit",
        "recipe.model",
    )
