"""What the routes of runs take and give."""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from api.jobs.resources import LONGEST, MEMORY
from api.runs.recipes import Changes
from api.tables import Dataset, Job, Report, Run, Version
from api.tracking import run_page
from bearloop.contract.jobs import Problem, Progress
from bearloop.contract.recipes import Recipe, TrainOn
from bearloop.contract.report import Metric, SplitName, Summary
from bearloop.contract.runs import CHECKPOINT_EVERY, Cost, RunSpec

MOST_SEEDS = 20


class NewRun(Changes):
    """What to train: a version, a recipe by name or in full, and a seed or several."""

    model_config = ConfigDict(extra="forbid")
    dataset: str
    version: int | None = Field(default=None, ge=1, description="Absent: the newest.")
    recipe: str | Recipe = Field(
        default="fine-tune",
        description="By name, or in full: then it is not stored, and may bear any name.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1 - MOST_SEEDS)
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_SEEDS,
        description="So many runs, with seeds counted up from `seed`: their spread shows how "
        "much of a difference is chance.",
    )
    device: Literal["cuda", "cpu", "auto"] | None = Field(
        default=None,
        description="Absent: `cuda` where GPUs are asked for, `auto` otherwise. A run on `cuda` "
        "ends where it sees too few GPUs, it never falls back to a CPU; `auto` does.",
    )
    gpus: int | None = Field(
        default=None, ge=0, le=16, description="Of each node. Absent: 1 on `cuda`, else none."
    )
    nodes: int = Field(
        default=1, ge=1, le=32, description="Pods that train together, one process for each GPU."
    )
    cpu: float | None = Field(
        default=None, gt=0, le=512, description="Cores of each pod. Absent: the operator's."
    )
    memory: str | None = Field(
        default=None,
        pattern=MEMORY,
        description="Of each pod, e.g. `8Gi`. Absent: the operator's.",
        examples=["8Gi"],
    )
    deadline: int | None = Field(
        default=None,
        ge=60,
        le=LONGEST,
        description="Seconds that one launch may take, from when its pod has a node: what it waits "
        "for a GPU or in a queue does not count. A run that takes longer has failed. Absent: no "
        "limit.",
    )
    checkpoint_every: timedelta = Field(
        default=CHECKPOINT_EVERY,
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="How long a run trains before it saves where it stands, in the middle of an "
        "epoch too, as a duration of ISO 8601: so much is lost when its node is. It saves at each "
        "stage's end and when it is evicted besides.",
        examples=["PT10M"],
    )


class SplitMetrics(BaseModel):
    """How often the model is wrong on one split."""

    images: int
    error: Metric
    tta_error: Metric | None
    """With test-time augmentation."""
    log_loss: float
    log_loss_low: float | None
    """The ends of its 95 % interval; null of a single image, or where the run is older than it."""
    log_loss_high: float | None


class RunView(BaseModel):
    """A run: what is trained on what, how far it is, and what came of it."""

    number: int
    dataset: str
    version: int
    recipe: str
    model: str
    weights: str
    train_on: TrainOn
    """`all`: the valid and test images too, so that it measures nothing."""
    twin: int | None
    """Of a run on all images: the run of the same recipe and version whose splits were kept, which
    tells how good it is. None: there is none yet, or the run measures for itself."""
    seed: int
    gpus: int
    """That each node was asked for."""
    nodes: int
    state: str
    """queued, launched, running, done, failed or cancelled."""
    reason: str | None
    """Why it waits, or why it failed."""
    problem: Problem | None
    """What was wrong with the input, and the way out."""
    cancel_asked: bool
    launches: int
    """How often it was begun; it goes on from its newest checkpoint."""
    progress: Progress | None
    device: str | None
    """The one that was used."""
    seconds: dict[str, float] | None
    """Time of each stage of the job, by name, over all attempts."""
    cost: Cost | None
    """What it took; None for a run that is not done."""
    metrics: dict[SplitName, SplitMetrics] | None
    """By split, each with its 95 % interval; of no split where it trained on all images."""
    bundle_digest: str | None
    mlflow_url: str | None
    """The run's page."""
    mlflow_run_id: str | None
    """As MLflow's own clients name the run."""
    mlflow_version: str | None
    """Version of the registered model."""
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None


class StartedRuns(BaseModel):
    """The runs that were queued, one for each seed."""

    items: list[RunView]


class RecipeView(BaseModel):
    """A recipe, complete."""

    name: str
    own: bool
    """The project's; otherwise bearloop's."""
    digest: str
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe, *, own: bool) -> "RecipeView":
        """Show a recipe."""
        return cls(name=recipe.name, own=own, digest=recipe.digest(), recipe=recipe)


class RunFilter(BaseModel):
    """Which page of which runs."""

    model_config = ConfigDict(extra="forbid")
    dataset: str | None = Field(default=None, description="Only runs on this dataset's versions.")
    state: str | None = Field(default=None, description="Only runs in this state.")
    cursor: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1000, description="Most items of this page.")


AskedRuns = Annotated[RunFilter, Query()]


class LogView(BaseModel):
    """The end of what a launch of the run printed."""

    launch: int
    text: str


class RunFiles(BaseModel):
    """Where a run's files lie; keys below the project's store."""

    store: str
    """The project's store: `file:///…` or `s3://bucket/prefix`."""
    spec: str
    manifest: str
    """Parquet: the version's images, labels and splits."""
    curves: str | None
    """JSON; None while the run goes on."""
    steps: str | None
    """Parquet: loss, rate and momentum of each step."""
    epochs: str | None
    """Parquet: losses and error of each epoch."""
    report_loss: str | None
    """Parquet: what the run says of every image, the highest loss first."""
    report_label_issue: str | None
    """The same, the most doubtful label first."""
    rerun: str
    """Command that runs `GET …/spec`, saved as `spec.json`, again where the store can be read."""


class RunParts(BaseModel):
    """The rows that a view of a run is made of."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    run: Run
    job: Job
    version: Version
    dataset: Dataset
    report: Report | None

    @cached_property
    def spec(self) -> RunSpec:
        """What the run was told."""
        return RunSpec.model_validate(self.job.spec)


def run_view(parts: RunParts, *, twin: int | None, tracking_url: str) -> RunView:
    """Show a run."""
    run, job, spec = parts.run, parts.job, parts.spec
    page = None
    if run.mlflow_run_id and run.mlflow_experiment_id:
        page = run_page(tracking_url, run.mlflow_experiment_id, run.mlflow_run_id)
    return RunView(
        number=run.number,
        dataset=parts.dataset.name,
        version=parts.version.number,
        recipe=run.recipe,
        model=spec.recipe.model,
        weights=spec.recipe.weights,
        train_on=spec.recipe.train_on,
        twin=twin,
        seed=run.seed,
        gpus=spec.gpus,
        nodes=spec.nodes,
        state=job.state,
        reason=job.reason,
        problem=_record(Problem, job.problem),
        cancel_asked=job.cancel_asked,
        launches=job.launch,
        progress=_record(Progress, job.progress),
        device=run.device,
        seconds=run.seconds,
        cost=_record(Cost, run.cost),
        metrics=_metrics(parts.report),
        bundle_digest=run.bundle_digest,
        mlflow_url=page,
        mlflow_run_id=run.mlflow_run_id,
        mlflow_version=run.mlflow_version,
        created_at=run.created_at,
        created_by=run.created_by,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _record(kind: Any, content: dict[str, Any] | None) -> Any:
    return None if content is None else kind.model_validate(content)


def _metrics(report: Report | None) -> dict[SplitName, SplitMetrics] | None:
    if report is None:
        return None
    splits = Summary.model_validate(report.summary).splits
    return {
        split: SplitMetrics(
            images=figures.images,
            error=figures.error,
            tta_error=figures.tta_error,
            log_loss=figures.log_loss,
            log_loss_low=figures.log_loss_low,
            log_loss_high=figures.log_loss_high,
        )
        for split, figures in splits.items()
    }
