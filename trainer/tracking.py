"""The run in MLflow: parameters, curves, figures, plots, report and model; only here is mlflow.

Steps are sent with each checkpoint. After a restart MLflow is asked how far it got: what it lacks
is sent from the checkpoint's curves, what it has is not sent again.
"""

import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bearloop.contract.report import Metric, Summary
from bearloop.contract.runs import Cost, Curves, EpochPoint, RunSpec, StepPoint
from bearloop.mlflow_pages import run_place
from trainer.page import PLOTS, TABLES, Page

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as LoggedRun
    from mlflow.models import ModelSignature

MODEL_PATH: Final = "model"
"""Artifact path of the ONNX-flavour model; the worker registers `runs:/<id>/model`."""
NOTE: Final = "mlflow.note.content"
"""The tag that MLflow's page of a run shows as its description."""
INPUT_NAME: Final = "pixels"
OUTPUT_NAME: Final = "logits"
STEPS: Final = "step/"
EPOCHS: Final = "epoch/"
"""What stands before a slash is a group of charts; groups are shown by the alphabet, the curves
before `test`, `train`, `usage` and `valid`."""
STEP_METRICS: Final = ("loss", "lr", "momentum")
EPOCH_METRICS: Final = (
    "train_loss",
    "valid_loss",
    "valid_loss_low",
    "valid_loss_high",
    "error_rate",
    "seconds",
)
"""Of an epoch, beside the ends of the error's interval."""
METRICS_PER_CALL: Final = 900
"""MLflow takes 1,000."""
PARAMETERS_PER_CALL: Final = 100
NO_NAME: Final = re.compile(r"[^\w\-. ]", re.ASCII)
"""What a name in MLflow must not hold, the slash too: it parts groups of charts."""
TAG_LENGTH: Final = 5000
"""Characters that every MLflow server takes."""
log = logging.getLogger(__name__)


class TrackingError(Exception):
    """MLflow did not take what the run has to say."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves in MLflow."""

    summary: Summary
    onnx: bytes
    bundle_digest: str
    note: str
    """Markdown: what the page says first."""
    plots: Mapping[str, bytes]
    """PNG files by name."""
    tables: Mapping[str, bytes]
    """CSV files by name."""
    reports: Mapping[str, bytes]
    """Parquet files by name."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each stage of the job so far, by name."""
    cost: Cost | None = None


class _Point(NamedTuple):
    """One value of one metric, before mlflow is imported."""

    key: str
    value: float
    step: int
    at: int
    """Milliseconds since 1970."""


class Tracker:
    """Logs one run; does nothing where the spec names no MLflow run."""

    def __init__(self, spec: RunSpec) -> None:
        """Stand for the run; nothing is sent before `start`."""
        self._spec = spec
        self._run = "" if spec.tracking is None else spec.tracking.run_id
        self._waiting: list[_Point] = []
        self._last: dict[str, int] = {}
        """Newest step of each metric that MLflow has, or that waits for it: a call may have been
        taken in part."""
        self._began = 0
        self._clock = 0
        self._page = Page(address="", tags={})

    @property
    def tracks(self) -> bool:
        """Whether there is an MLflow run."""
        return bool(self._run)

    @property
    def page(self) -> Page:
        """Where the run is shown, and what the worker says of it; known from `start` on."""
        return self._page

    def start(self, *, device: str, precision: str, curves: Curves) -> None:
        """Log parameters and tags, and whatever of a resumed run's curves MLflow lacks."""
        if not self._run:
            return
        client = _client()
        with _errors():
            found = client.get_run(self._run)
            self._began = int(found.info.start_time)
            self._page = _page(found)
            for key in found.data.metrics:
                if key.startswith((STEPS, EPOCHS)):
                    self._last[key] = _last_step(client, self._run, key)
            self._describe(client, device=device, precision=precision)
        for step in curves.steps:
            self.log_step(step)
        for epoch in curves.epochs:
            self.log_epoch(epoch)
        self.flush()

    def log_step(self, point: StepPoint) -> None:
        """Keep one step for the next flush, or what MLflow lacks of it."""
        if self._run:
            values = point.model_dump(include=set(STEP_METRICS))
            self._keep(STEPS, values, step=point.step)

    def log_epoch(self, point: EpochPoint) -> None:
        """Keep one epoch for the next flush, or what MLflow lacks of it."""
        if self._run:
            values = point.model_dump(include=set(EPOCH_METRICS), exclude_none=True)
            if point.error is not None:
                values |= {"error_rate_low": point.error.low, "error_rate_high": point.error.high}
            self._keep(EPOCHS, values, step=point.epoch)

    def tell(self, notes: Sequence[str]) -> None:
        """Show what happened beside the plan as the run's tag; training goes on without MLflow."""
        if not self._run:
            return
        try:
            with _errors():
                _client().set_tag(self._run, "bearloop.notes", "; ".join(notes)[:TAG_LENGTH])
        except TrackingError as error:
            log.warning("a note waits for MLflow: %s", error)

    def flush(self) -> None:
        """Send what is kept. Where MLflow does not answer it stays kept: training goes on."""
        if not self._run or not self._waiting:
            return
        try:
            self._send()
        except TrackingError as error:
            log.warning("%d values wait for MLflow: %s", len(self._waiting), error)

    def finish(self, outcome: Outcome) -> str | None:
        """Log figures, plots, report and model; return the model's artifact path.

        Raises TrackingError. Finishing again changes nothing: the figures carry the run's own time.
        """
        if not self._run:
            return None
        for key, value in (*_figures(outcome.summary), *_costs(outcome)):
            self._waiting.append(_Point(key, value, step=0, at=self._began))
        self._send()
        client = _client()
        with tempfile.TemporaryDirectory() as folder, _errors():
            _write_files(Path(folder, PLOTS), outcome.plots)
            _write_files(Path(folder, TABLES), outcome.tables)
            _write_files(Path(folder, "report"), outcome.reports)
            self._save_model(Path(folder, MODEL_PATH), outcome)
            client.log_artifacts(self._run, folder)
            client.set_tag(self._run, "bearloop.bundle", outcome.bundle_digest)
            client.set_tag(self._run, NOTE, outcome.note)
        return MODEL_PATH

    def give_up(self, plots: Mapping[str, bytes]) -> None:
        """Show how far a run came that ends without a model; MLflow need not answer."""
        if not self._run:
            return
        try:
            self._send()
            with tempfile.TemporaryDirectory() as folder, _errors():
                _write_files(Path(folder, PLOTS), plots)
                _client().log_artifacts(self._run, folder)
        except TrackingError as error:
            log.warning("MLflow lacks the run's last steps and plots: %s", error)

    def _describe(self, client: "Client", *, device: str, precision: str) -> None:
        from mlflow.entities import Param, RunTag

        spec = self._spec
        tags = {
            "project": spec.project,
            "run": str(spec.run),
            "job": spec.job,
            "version": spec.version_digest,
            "recipe": spec.recipe.digest(),
            "code": spec.code_version,
            "device": device,
            "precision": precision,
        }
        parameters = parameters_of(spec)
        sent = [Param(key, value[:6000]) for key, value in parameters.items()]
        marks = [RunTag(f"bearloop.{key}", value) for key, value in tags.items()]
        for start in range(0, len(sent), PARAMETERS_PER_CALL):
            batch = sent[start : start + PARAMETERS_PER_CALL]
            client.log_batch(self._run, params=batch, tags=[] if start else marks)
        client.log_inputs(self._run, [_dataset(spec, self._page)])

    def _keep(self, group: str, values: Mapping[str, float], *, step: int) -> None:
        # MLflow draws by time too: the clock must not run backwards between two steps.
        self._clock = max(self._clock, int(time.time() * 1000))
        for key, value in values.items():
            if step > self._last.get(group + key, 0):
                self._last[group + key] = step
                self._waiting.append(_Point(group + key, value, step=step, at=self._clock))

    def _send(self) -> None:
        from mlflow.entities import Metric as Logged

        client = _client()
        while batch := self._waiting[:METRICS_PER_CALL]:
            sent = [Logged(point.key, point.value, point.at, point.step) for point in batch]
            with _errors():
                client.log_batch(self._run, metrics=sent)
            del self._waiting[: len(batch)]

    def _save_model(self, folder: Path, outcome: Outcome) -> None:
        import mlflow.onnx
        import onnx
        from mlflow.models import Model

        mlflow.onnx.save_model(
            onnx.load_model_from_string(outcome.onnx),
            folder,
            mlflow_model=Model(artifact_path=MODEL_PATH, run_id=self._run),
            signature=_signature(self._spec),
            pip_requirements=_requirements(),
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            metadata={
                "bundle_digest": outcome.bundle_digest,
                "classes": [entry.name for entry in self._spec.classes],
            },
        )


def parameters_of(spec: RunSpec) -> dict[str, str]:
    """Name what the run was told, a line each; stages by their place and name, so that they sort.

    The recipe's second stage, a fit called `frozen`, has `stage 2 frozen.epochs`.
    """
    recipe = spec.recipe.model_dump(mode="json")
    name, stages = recipe.pop("name"), recipe.pop("stages")
    told = {key: recipe.pop(key) for key in ("model", "weights")}
    told = {"recipe": name, **told, "seed": spec.seed, "gpus": spec.gpus, "nodes": spec.nodes}
    for place, stage in enumerate(stages, start=1):
        called = NO_NAME.sub("_", stage.pop("name", stage["kind"]))
        told[f"stage {place} {called}"] = stage
    return flat({**told, **recipe})


def flat(content: object, path: str = "") -> dict[str, str]:
    """Name every leaf of nested JSON by its path: {"a": [{"b": 1}]} is {"a.0.b": "1"}.

    A list of numbers or names is one leaf.
    """
    if isinstance(content, Mapping):
        parts: Sequence[tuple[object, object]] = list(content.items())
    elif isinstance(content, list) and any(isinstance(part, dict | list) for part in content):
        parts = list(enumerate(content))
    else:
        leaves = content if isinstance(content, list) else [content]
        return {path: ", ".join(map(str, leaves))}
    found: dict[str, str] = {}
    for name, part in parts:
        found |= flat(part, f"{path}.{name}" if path else str(name))
    return found


@contextmanager
def _errors() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(f"MLflow at {_address()}: {error}") from error


def _client() -> "Client":
    from mlflow import MlflowClient

    with _errors():
        return MlflowClient()


def _address() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())


def _page(found: "LoggedRun") -> Page:
    place = run_place(found.info.experiment_id, found.info.run_id)
    return Page(address=place, tags=dict(found.data.tags))


def _dataset(spec: RunSpec, page: Page) -> "DatasetInput":
    """Name the version as MLflow's pages list a run's datasets; logged again it is the same."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name, number = (page.tags.get(f"bearloop.{key}") for key in ("dataset", "dataset_version"))
    source = {"version": spec.version_digest, "manifest": spec.manifest_key}
    version = Dataset(
        name=f"{name} v{number}" if name and number else spec.project,
        # As long as MLflow lets it be; the tags have all of it.
        digest=spec.version_digest[:32],
        source_type="bearloop",
        source=json.dumps(source),
        profile=json.dumps({"classes": len(spec.classes)}),
    )
    return DatasetInput(version, [InputTag("mlflow.data.context", "training")])


def _last_step(client: "Client", run: str, key: str) -> int:
    return max((point.step for point in client.get_metric_history(run, key)), default=0)


def _figures(summary: Summary) -> Iterator[tuple[str, float]]:
    for split, figures in summary.splits.items():
        yield f"{split}/images", figures.images
        yield f"{split}/log_loss", figures.log_loss
        if figures.log_loss_low is not None and figures.log_loss_high is not None:
            yield f"{split}/log_loss_low", figures.log_loss_low
            yield f"{split}/log_loss_high", figures.log_loss_high
        yield from _interval(f"{split}/error", figures.error)
        if figures.tta_error is not None:
            yield from _interval(f"{split}/tta_error", figures.tta_error)


def _costs(outcome: Outcome) -> Iterator[tuple[str, float]]:
    for name, seconds in outcome.seconds.items():
        yield f"usage/seconds_{name}", seconds
    if outcome.cost is None:
        return
    for name, value in outcome.cost.model_dump(exclude={"stages"}, exclude_none=True).items():
        yield f"usage/{name}", value
    for stage, seconds in outcome.cost.stages.items():
        yield f"usage/seconds_fit_{NO_NAME.sub('_', stage)}", seconds


def _interval(name: str, metric: Metric) -> Iterator[tuple[str, float]]:
    yield name, metric.value
    yield f"{name}_low", metric.low
    yield f"{name}_high", metric.high


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _signature(spec: RunSpec) -> "ModelSignature":
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    side, kind = spec.recipe.preprocess.size, np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(kind, (-1, 3, side, side), INPUT_NAME)]),
        outputs=Schema([TensorSpec(kind, (-1, len(spec.classes)), OUTPUT_NAME)]),
    )


def _requirements() -> list[str]:
    """Pin what the model needs wherever it is loaded."""
    return [f"{name}=={version(name)}" for name in ("onnxruntime", "onnx", "numpy", "pandas")]
