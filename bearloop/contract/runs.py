"""What a training job is told, and what it answers."""

from datetime import timedelta
from typing import Final, Literal, NamedTuple

from pydantic import Field, field_validator

from bearloop.contract.recipes import Recipe, Suggestion
from bearloop.contract.record import ClassEntry, Record
from bearloop.contract.report import Metric, Summary

LR_FINDER_FILE: Final = "lr-finder.json"
"""Below the attempt's prefix, from the first lr-find on."""
CHECKPOINT_EVERY: Final = timedelta(minutes=2)
"""Unless a run says otherwise: what a node that is lost takes along, and how far MLflow is behind.
"""


class Tracking(Record):
    """Where the run is logged; the worker made the MLflow run before the job starts."""

    run_id: str
    """MLflow's id of the run."""
    experiment: str


class RunSpec(Record):
    """Everything a training job needs; no default is read later."""

    kind: Literal["run"] = "run"
    job: str
    project: str
    run: int
    """The run's number in its project."""
    version_digest: str
    manifest_key: str
    """Parquet file of the version's manifest, relative to the project's prefix."""
    classes: tuple[ClassEntry, ...]
    """In the order of the model's outputs."""
    recipe: Recipe
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    device: Literal["cuda", "cpu", "auto"] = "auto"
    gpus: int = Field(default=0, ge=0, le=16)
    """Of each node."""
    nodes: int = Field(default=1, ge=1, le=32)
    """Machines, or pods, that train together."""
    checkpoint_every: timedelta = Field(default=CHECKPOINT_EVERY, gt=timedelta(0))
    """Time after which the next step is followed by a checkpoint; each stage ends with one."""
    code_version: str
    """Of bearloop, as given to MLflow and the bundle."""
    tracking: Tracking | None = None
    """None when rerun outside the platform."""

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _counted_epochs_once(cls, value: object) -> object:
        """Let specifications that are stored be read, which had a number of epochs here."""
        return CHECKPOINT_EVERY if isinstance(value, int) else value

    @property
    def ranks(self) -> int:
        """Processes that train together: one for each GPU, and at least one on each node."""
        return self.nodes * max(1, self.gpus)


class Cost(Record):
    """What a run took: all its attempts, and where several processes train, all of them together.

    An attempt that was killed counts until seconds before its end.
    """

    images_per_second: float | None
    """Training pictures, over all epochs; the time of validation is not in it."""
    cpu_utilisation: float
    """Share of the cores that the fit stages kept busy, 0..1; the mean of the nodes."""
    gpu_utilisation: float | None
    """Share of the fit stages' time in which a GPU was busy, 0..1; the mean of the GPUs. None
    without a GPU, or where its driver cannot be asked."""
    peak_memory: int
    """Bytes, on the node that held most; the mapped pages of decoded pictures count too."""
    peak_gpu_memory: int | None
    """Bytes, on the GPU that held most."""
    stages: dict[str, float]
    """Seconds of each fit stage by its name, validation included, of the body's pass (`features`)
    and of each search of a rate (`lr-find` and the stage's name). What an attempt did behind its
    last checkpoint was lost, and is in the job's `fit` alone."""


class RunOutput(Record):
    """What a training job answers."""

    kind: Literal["run"] = "run"
    device: str
    """The device that was used, e.g. `cpu` or `cuda:0 NVIDIA H200`."""
    seconds: dict[str, float]
    """Time of each stage of the job, by name, in seconds, over all attempts."""
    summary: Summary
    report_keys: dict[Literal["loss", "label_issue"], str]
    """Parquet files of the report, one sorted in each order."""
    curves_key: str
    """JSON of `Curves`."""
    bundle_digest: str
    bundle_prefix: str
    """`bundles/<digest>/`"""
    mlflow_model: str | None
    """Artifact path of the ONNX-flavour model in the MLflow run; None when not tracked."""
    cost: Cost | None = None
    """None: the run is older than its measurement."""


class EpochPoint(Record):
    """One epoch of a fit stage."""

    stage: str
    epoch: int
    """From 1, counted over all fit stages."""
    train_loss: float
    valid_loss: float | None
    """None where nothing is held out: the run trains on all images."""
    valid_loss_low: float | None = Field(default=None, exclude_if=lambda end: end is None)
    """Its 95 % interval, by the spread of the valid images' losses; None of a single image, and in
    curves that are older than it."""
    valid_loss_high: float | None = Field(default=None, exclude_if=lambda end: end is None)
    error_rate: float | None
    """Of the valid images; None where nothing is held out."""
    error: Metric | None = None
    """`error_rate` with its interval; None in curves that are older than it."""
    seconds: float
    step: int | None = Field(default=None, exclude_if=lambda step: step is None)
    """Steps that the run had taken when it ended; None in curves that are older than it."""


class StepPoint(Record):
    """One optimiser step."""

    step: int
    """From 1, counted over all fit stages."""
    loss: float
    lr: float
    """Of the head."""
    momentum: float


class LrPoint(Record):
    """One step of an lr-find."""

    lr: float
    """Of the head."""
    loss: float
    """Of the step's batch, before the step."""
    smoothed: float
    """Running mean of the losses so far: what suggestions are read off."""


class LrFind(Record):
    """What an lr-find stage found: its curve, and the rates that the curve suggests."""

    stage: str
    """Name of the fit stage that it stands before."""
    points: tuple[LrPoint, ...]
    """The steps taken, in order."""
    end: Literal["finished", "diverged", "not_finite"]
    """All iterations; the loss ran away; or it was no number any more."""
    suggestions: dict[Suggestion, float]
    """By name; empty when the curve suggests none."""
    no_suggestion: Literal["too_few_points", "flat", "not_finite"] | None
    """Which of three reasons there is for none."""
    reason: str | None
    """Why there is none, in words."""
    disagreement: float | None
    """Highest suggestion over the lowest: far above 10 the curve is worth a look."""
    lr: float | None
    """The suggestion that the recipe takes where a stage's `lr` is `auto`."""


class LrFinds(Record):
    """The lr-finds of an attempt so far: its file `lr-finder.json`."""

    finds: tuple[LrFind, ...]


def lr_picture_file(stage: str) -> str:
    """Return the PNG beside LR_FINDER_FILE that shows the search before a stage."""
    return f"lr-finder-{stage}.png"


class Curves(Record):
    """What the lesson's `recorder` shows."""

    epochs: tuple[EpochPoint, ...]
    steps: tuple[StepPoint, ...]
    lr_finds: tuple[LrFind, ...] = ()
    """In the order of the stages."""
    kept: dict[str, int] = Field(default={}, exclude_if=lambda kept: not kept)
    """Number of the epoch whose weights a stage ended with, by stage; only of those that might stop
    early."""
    notes: tuple[str, ...] = Field(default=(), exclude_if=lambda notes: not notes)
    """What happened beside the plan, in sentences."""


class MeasuredEpoch(NamedTuple):
    """One epoch that was measured on held-out images."""

    stage: str
    epoch: int
    train_loss: float
    valid_loss: float
    error_rate: float
    end: float
    """Steps that the run had taken then."""
    loss_ends: tuple[float, float] | None
    """Of the valid loss's 95 % interval; None where it is not known."""


def measured_epochs(curves: Curves) -> list[MeasuredEpoch]:
    """Return the epochs with their valid figures: none of a run that trains on all images."""
    # Of curves that are older than `step`: as if their epochs were equally long.
    alike = len(curves.steps) / max(1, len(curves.epochs))
    return [
        MeasuredEpoch(
            stage=p.stage,
            epoch=p.epoch,
            train_loss=p.train_loss,
            valid_loss=p.valid_loss,
            error_rate=p.error_rate,
            end=alike * p.epoch if p.step is None else p.step,
            loss_ends=None
            if p.valid_loss_low is None or p.valid_loss_high is None
            else (p.valid_loss_low, p.valid_loss_high),
        )
        for p in curves.epochs
        if p.valid_loss is not None and p.error_rate is not None
    ]


NO_CURVES: Final = Curves(epochs=(), steps=())
"""Of a run that has not begun."""
