"""A run in a real MLflow server: every step once, whatever happens, and a model that predicts."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from bearloop.bundle import bundle_prefix, load_bundle
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import Metric, SplitFigures, Summary
from bearloop.contract.runs import Cost, Curves, EpochPoint, RunSpec, StepPoint, Tracking
from bearloop.preprocess import preprocess
from bearloop.store import FolderStore, image_key
from tests.trainer.runs import model_of, open_run
from tests.trainer.versions import pictures, put_version, recipe
from trainer.evaluate import softmax
from trainer.export import export_bundle
from trainer.fit import fit
from trainer.outcome import finish_tracking
from trainer.predict import predict
from trainer.report import save_reports, summarise
from trainer.tracking import Outcome, Tracker, TrackingError, flat

NOTHING = Curves(epochs=(), steps=())
COST = Cost(
    images_per_second=120.5,
    cpu_utilisation=0.75,
    gpu_utilisation=None,
    peak_memory=2**30,
    peak_gpu_memory=None,
    stages={"head, first": 3.5},
)


def step(number: int) -> StepPoint:
    return StepPoint(step=number, loss=1 / number, lr=0.1 * number, momentum=0.9)


def epoch(number: int) -> EpochPoint:
    return EpochPoint(
        stage="whole",
        epoch=number,
        train_loss=1 / number,
        valid_loss=2 / number,
        valid_loss_low=1 / number,
        valid_loss_high=3 / number,
        error_rate=0.5 / number,
        error=Metric(value=0.5 / number, low=0.1 / number, high=0.9 / number, n=8),
        seconds=3,
    )


def spec_of(run: str | None) -> RunSpec:
    return RunSpec(
        job="job-1",
        project="forest",
        run=7,
        version_digest="ab" * 32,
        manifest_key="manifest.parquet",
        classes=(
            ClassEntry(id=1, name="black", position=0),
            ClassEntry(id=2, name="teddy", position=1),
        ),
        recipe=recipe(),
        code_version="0.1.0",
        tracking=None if run is None else Tracking(run_id=run, experiment="forest"),
    )


def tiny_onnx() -> bytes:
    """Mean of each channel times a matrix: [n, 3, 32, 32] -> [n, 2]."""
    weights = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def outcome() -> Outcome:
    error = Metric(value=0.1, low=0.05, high=0.2, n=100)
    figures = SplitFigures(
        images=100, error=error, log_loss=0.3, tta_error=error, confusion=((45, 5), (5, 45))
    )
    return Outcome(
        summary=Summary(classes=(1, 2), splits={"valid": figures}, conflicts=0),
        onnx=tiny_onnx(),
        bundle_digest="cd" * 32,
        note="**good**",
        plots={"1-losses.png": b"png"},
        tables={"epochs.csv": b"epoch\n1\n"},
        reports={"report-loss.parquet": b"parquet"},
        seconds={"cache": 1.5, "fit": 4.0},
        cost=COST,
    )


@pytest.fixture
def run(mlflow_address: str) -> str:
    """An MLflow run as the worker makes it before the job starts."""
    client = MlflowClient(mlflow_address)
    name = "forest"
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    return str(client.create_run(experiment).info.run_id)


def steps_of(run: str, key: str = "step/loss") -> list[int]:
    return sorted(point.step for point in MlflowClient().get_metric_history(run, key))


def test_nothing_is_tracked_without_a_run() -> None:
    tracker = Tracker(spec_of(None))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    tracker.log_step(step(1))
    tracker.log_epoch(epoch(1))
    tracker.flush()
    assert tracker.finish(outcome()) is None


def test_the_run_says_what_it_is(run: str) -> None:
    Tracker(spec_of(run)).start(device="cpu", precision="fp32", curves=NOTHING)
    data = MlflowClient().get_run(run).data
    assert data.params["model"] == recipe().model
    assert data.params["preprocess.size"] == "32"
    assert data.params["stage 2 whole.lr"] == "0.001"
    assert data.params["seed"] == "42"
    assert data.tags["bearloop.version"] == "ab" * 32
    assert data.tags["bearloop.recipe"] == recipe().digest()
    assert data.tags["bearloop.code"] == "0.1.0"
    assert (data.tags["bearloop.device"], data.tags["bearloop.precision"]) == ("cpu", "fp32")
    (used,) = MlflowClient().get_run(run).inputs.dataset_inputs
    assert used.dataset.digest == "ab" * 16


def test_what_happened_beside_the_plan_is_a_tag_of_the_run(run: str) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    tracker.tell(["out of memory at step 3", "stage 'whole' stopped"])
    told = MlflowClient().get_run(run).data.tags["bearloop.notes"]
    assert told == "out of memory at step 3; stage 'whole' stopped"


def test_an_interrupted_run_logs_each_step_exactly_once(run: str) -> None:
    first = Tracker(spec_of(run))
    first.start(device="cpu", precision="fp32", curves=NOTHING)
    for number in range(1, 401):
        first.log_step(step(number))
    first.log_epoch(epoch(1))
    first.flush()
    # The checkpoint of step 450 was written, and the process died before it could flush.
    for number in range(401, 451):
        first.log_step(step(number))

    second = Tracker(spec_of(run))
    saved = Curves(epochs=(epoch(1),), steps=tuple(step(number) for number in range(1, 451)))
    second.start(device="cpu", precision="fp32", curves=saved)
    for number in range(451, 501):
        second.log_step(step(number))
    second.log_epoch(epoch(2))
    second.flush()

    # An older checkpoint: steps 431 to 500 are trained again, and are there already.
    third = Tracker(spec_of(run))
    older = Curves(epochs=(epoch(1),), steps=tuple(step(number) for number in range(1, 431)))
    third.start(device="cpu", precision="fp32", curves=older)
    for number in range(431, 521):
        third.log_step(step(number))
    third.log_epoch(epoch(2))
    third.log_epoch(epoch(3))
    third.flush()

    for key in ("step/loss", "step/lr", "step/momentum"):
        assert steps_of(run, key) == list(range(1, 521))
    losses = ("train_loss", "valid_loss", "valid_loss_low", "valid_loss_high")
    for key in (*losses, "error_rate", "error_rate_high", "seconds"):
        assert steps_of(run, f"epoch/{key}") == [1, 2, 3]
    history = MlflowClient().get_metric_history(run, "step/loss")
    assert {point.step: point.value for point in history}[450] == 1 / 450


def test_a_call_that_mlflow_took_in_part_is_completed(run: str) -> None:
    """A call ends where it is full, and a server may end within one."""
    taken = {"step/loss": [1, 2], "step/lr": [1], "step/momentum": [1], "epoch/train_loss": [1]}
    for key, steps in taken.items():
        for number in steps:
            MlflowClient().log_metric(run, key, 0.25, step=number)
    tracker = Tracker(spec_of(run))
    saved = Curves(epochs=(epoch(1),), steps=(step(1), step(2), step(3)))
    tracker.start(device="cpu", precision="fp32", curves=saved)
    for key in ("step/loss", "step/lr", "step/momentum"):
        assert steps_of(run, key) == [1, 2, 3]
    for key in ("train_loss", "valid_loss", "error_rate", "error_rate_low", "seconds"):
        assert steps_of(run, f"epoch/{key}") == [1]


def test_an_epoch_that_was_not_measured_sends_no_error(run: str) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    figures = ("valid_loss", "valid_loss_low", "valid_loss_high", "error_rate", "error")
    none = dict.fromkeys(figures)
    tracker.log_epoch(epoch(1).model_copy(update=none))
    tracker.flush()
    sent = set(MlflowClient().get_run(run).data.metrics)
    assert sent == {"epoch/train_loss", "epoch/seconds"}


def test_steps_wait_while_mlflow_is_away(
    run: str,
    mlflow_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracker.log_step(step(1))
    tracker.flush()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        tracker.finish(outcome())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    tracker.log_step(step(2))
    tracker.flush()
    assert steps_of(run) == [1, 2]


def test_a_run_that_ends_without_a_model_shows_how_far_it_came(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    tracker.log_step(step(1))
    tracker.give_up({"1-losses.png": b"png"})
    assert steps_of(run) == [1]
    shown = MlflowClient().list_artifacts(run, "plots")
    assert [entry.path for entry in shown] == ["plots/1-losses.png"]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracker.give_up({})


def test_a_finished_run_holds_figures_plots_report_and_a_model(run: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second attempt after a crash before the result
        tracker = Tracker(spec_of(run))
        tracker.start(device="cpu", precision="fp32", curves=NOTHING)
        assert tracker.finish(outcome()) == "model"
    client = MlflowClient()
    data = client.get_run(run).data
    assert data.metrics["valid/error"] == 0.1
    assert (data.metrics["valid/error_low"], data.metrics["valid/error_high"]) == (0.05, 0.2)
    assert data.metrics["valid/log_loss"] == 0.3
    assert steps_of(run, "valid/error") == [0]
    cost = {name: value for name, value in data.metrics.items() if name.startswith("usage/")}
    assert cost == {
        "usage/images_per_second": 120.5,
        "usage/cpu_utilisation": 0.75,
        "usage/peak_memory": 2**30,
        "usage/seconds_cache": 1.5,
        "usage/seconds_fit": 4.0,
        "usage/seconds_fit_head_ first": 3.5,
    }
    assert data.tags["bearloop.bundle"] == "cd" * 32
    assert data.tags["mlflow.note.content"] == "**good**"
    assert [entry.path for entry in client.list_artifacts(run, "plots")] == ["plots/1-losses.png"]
    assert [entry.path for entry in client.list_artifacts(run, "report")] == [
        "report/report-loss.parquet"
    ]
    model = Path(client.download_artifacts(run, "model", str(tmp_path)))
    pinned = (model / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in pinned)
    assert {"onnx", "onnxruntime", "numpy"} <= {line.partition("==")[0] for line in pinned}


def test_the_model_predicts_in_a_process_that_knows_only_mlflow(run: str) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    tracker.finish(outcome())
    code = (
        "import sys, numpy as np, mlflow\n"
        f"model = mlflow.pyfunc.load_model('runs:/{run}/model')\n"
        "pixels = np.ones((2, 3, 32, 32), dtype=np.float32)\n"
        "print(model.predict({'pixels': pixels})['logits'].tolist())\n"
        "assert not {'torch', 'bearloop', 'trainer'} & set(sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": ""},
        cwd="/",
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "[[9.0, 12.0], [9.0, 12.0]]"


def test_the_model_can_be_registered_from_the_run(run: str) -> None:
    tracker = Tracker(spec_of(run))
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    path = tracker.finish(outcome())
    version = mlflow.register_model(f"runs:/{run}/{path}", "bears")
    loaded = mlflow.pyfunc.load_model(f"models:/bears/{version.version}")
    answer = loaded.predict({"pixels": np.ones((1, 3, 32, 32), dtype=np.float32)})
    assert answer["logits"].tolist() == [[9.0, 12.0]]


def test_leaves_are_named_by_their_path() -> None:
    assert flat({"a": [{"b": 1}, {"b": None}], "c": {"d": True}, "e": [0.5, 1]}) == {
        "e": "0.5, 1",
        "a.0.b": "1",
        "a.1.b": "None",
        "c.d": "True",
    }


def test_a_whole_runs_outcome_reaches_mlflow(run: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    untracked = put_version(store, pictures(train=3, valid=2), recipe=recipe())
    tracking = Tracking(run_id=run, experiment="forest")
    spec = untracked.model_copy(update={"tracking": tracking})
    opened = open_run(store, spec, folder=tmp_path / "cache")
    opened.tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    model = model_of(opened)
    curves = fit(opened, model, None).curves()
    predictions = predict(opened, model, weights=None)
    bundle = export_bundle(store, spec, model, pixels=opened.evaluation, predictions=predictions)
    path = finish_tracking(
        opened,
        curves=curves,
        predictions=predictions,
        summary=summarise(predictions),
        report_keys=save_reports(store, opened.mailbox.prefix, predictions),
        bundle=bundle,
        seconds={"cache": 1.5},
        cost=COST,
    )
    assert path == "model"
    assert steps_of(run) == [point.step for point in curves.steps]
    plots = {entry.path for entry in MlflowClient().list_artifacts(run, "plots")}
    drawn = ("1-losses", "2-rates", "3-confusion", "4-top-losses")
    assert plots == {f"plots/{name}.png" for name in drawn}
    tables = {entry.path for entry in MlflowClient().list_artifacts(run, "tables")}
    assert tables == {"tables/epochs.csv", "tables/most-confused.csv"}
    assert "Error on valid images" in MlflowClient().get_run(run).data.tags["mlflow.note.content"]
    loaded = mlflow.pyfunc.load_model(f"runs:/{run}/model")
    card = load_bundle(store, bundle_prefix(bundle.digest)).card
    for golden in card.golden:
        pixels = preprocess(store.get(image_key(golden.sha256)), card.preprocess)
        answer = softmax(loaded.predict({"pixels": pixels[None]})["logits"])[0]
        np.testing.assert_allclose(answer, golden.probabilities, atol=1e-4)
