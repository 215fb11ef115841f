"""The bundle predicts what the report says, and two equal runs make the same one."""

import subprocess
import sys
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from bearloop.bundle import bundle_prefix, load_bundle
from bearloop.contract.export_sizes import ROOM, file_bytes
from bearloop.contract.runs import RunSpec
from bearloop.preprocess import preprocess
from bearloop.store import FolderStore
from tests.trainer.versions import pictures, put_version, recipe, resnet
from trainer.cache import EvaluationPixels, open_pixels
from trainer.data import Item, load_items
from trainer.evaluate import logits, softmax
from trainer.export import Exported, ExportError, check_onnx, export_bundle, golden_places, to_onnx
from trainer.model import Classifier, build_classifier
from trainer.report import Predictions

CPU = torch.device("cpu")


class Run:
    """A run of random weights, up to its export."""

    def __init__(self, folder: Path, *, seed: int = 1) -> None:
        torch.set_num_threads(1)
        self.store = FolderStore(folder / "store")
        self.spec: RunSpec = put_version(
            self.store, pictures(train=3, valid=2), recipe=resnet(), seed=seed
        )
        items = load_items(self.store, self.spec)
        _, self.pixels = open_pixels(
            self.store,
            items,
            evaluation=self.spec.recipe.preprocess,
            presize=32,
            folder=folder / "cache",
            report=lambda *_: None,
        )
        torch.manual_seed(seed)
        self.model: Classifier = build_classifier(self.spec.recipe, 3, None).eval()
        self.predictions = self.predict(items, self.pixels)

    def predict(self, items: list[Item], pixels: EvaluationPixels) -> Predictions:
        answers = logits(
            self.model,
            pixels,
            range(len(items)),
            device=CPU,
            preprocess=self.spec.recipe.preprocess,
            batch_size=8,
        )
        out_of_fold = np.full((len(items), 3), 1 / 3, dtype=np.float32)
        return Predictions(items, self.spec.classes, answers, None, out_of_fold)

    @cached_property
    def exported(self) -> Exported:
        return export_bundle(
            self.store,
            self.spec,
            self.model,
            pixels=self.pixels,
            predictions=self.predictions,
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_the_loaded_bundle_answers_its_golden_pictures(run: Run) -> None:
    bundle = load_bundle(run.store, bundle_prefix(run.exported.digest))
    assert [entry.id for entry in bundle.card.classes] == [70, 80, 90]
    assert bundle.card.provenance.recipe_digest == run.spec.recipe.digest()
    session = onnxruntime.InferenceSession(bundle.onnx)
    assert len(bundle.golden) == 8
    for n in (1, 3, 8):
        inputs = np.stack([preprocess(p, bundle.card.preprocess) for p in bundle.golden[:n]])
        (answers,) = session.run([bundle.card.output_name], {bundle.card.input_name: inputs})
        expected = [entry.probabilities for entry in bundle.card.golden[:n]]
        np.testing.assert_allclose(softmax(answers), expected, atol=1e-4)


@pytest.mark.long
def test_equal_runs_in_two_processes_make_the_same_bundle(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.trainer.test_export import Run; "
        "print(Run(Path(sys.argv[1])).exported.digest)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout.splitlines()[-1] == run.exported.digest


def test_the_onnx_file_is_one_file_of_fp32_and_says_nothing_of_its_making(run: Run) -> None:
    model = onnx.load_model_from_string(run.exported.onnx)
    (pixels,), (answer,) = model.graph.input, model.graph.output
    assert (pixels.name, answer.name) == ("pixels", "logits")
    assert [d.dim_param or d.dim_value for d in pixels.type.tensor_type.shape.dim] == [
        "n",
        3,
        32,
        32,
    ]
    assert {tensor.data_location for tensor in model.graph.initializer} == {
        onnx.TensorProto.DEFAULT
    }
    floats = {t.data_type for t in model.graph.initializer} - {onnx.TensorProto.INT64}
    assert floats == {onnx.TensorProto.FLOAT}
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # weights spell everything somewhere
    text = model.SerializeToString()
    for trace in (b".py", b"site-packages", b"trainer", str(Path.cwd()).encode()):
        assert trace not in text


def test_the_file_is_as_large_as_the_contract_says(run: Run) -> None:
    assert 0 < file_bytes("resnet18", members=1) - len(run.exported.onnx) < ROOM


def test_exporting_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(4)
    model = build_classifier(recipe(), 3, None).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    to_onnx(model, size=32)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_file_of_other_weights_is_refused(run: Run) -> None:
    torch.manual_seed(9)
    other = to_onnx(build_classifier(run.spec.recipe, 3, None), size=32)
    inputs = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        answers = softmax(run.model(torch.from_numpy(inputs)).numpy())
    with pytest.raises(ExportError, match="differ from torch's"):
        check_onnx(other, run.model, inputs=inputs, reported=answers)
    own = run.exported.onnx
    check_onnx(own, run.model, inputs=inputs, reported=answers)
    with pytest.raises(ExportError, match="differ from the report's"):
        check_onnx(own, run.model, inputs=inputs, reported=answers[::-1])


def item(sha: str, split: str, label: int | None) -> Item:
    return Item(sha256=sha, label=label, split=split, group=sha, fold=0)  # type: ignore[arg-type]


def test_golden_pictures_are_of_every_class_and_of_valid_first() -> None:
    items = [
        item("a", "train", 0),
        item("b", "valid", 0),
        item("c", "train", 1),
        item("d", "test", 1),
        item("e", "valid", None),
        item("f", "valid", 0),
    ]
    assert [items[place].sha256 for place in golden_places(items)] == ["b", "c", "f", "a"]
    assert [items[place].sha256 for place in golden_places(items, 2)] == ["b", "c"]
    many = [item(f"{label:02}", "valid", label) for label in range(20)]
    assert golden_places(many) == list(range(8))
