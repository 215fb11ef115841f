"""What the API answers, typed; a field the client does not know is passed over."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

ENDED = {"done", "failed", "cancelled"}
"""Job states after which nothing more happens."""


class View(BaseModel):
    """An answer of the API; a newer API may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class JobFailure(View):
    """Why a job's input was refused."""

    code: str
    detail: str
    field: str | None = None
    value: str | None = None
    way_out: str | None = None


class JobProgress(View):
    """How far a job is."""

    stage: str
    done: int
    total: int | None = None
    message: str = ""
    numbers: dict[str, float] = {}


class DatasetView(View):
    """A dataset."""

    name: str
    seed: int
    valid_share: float
    test_share: float


class JobView(View):
    """What imports and runs have in common: a job that waits, runs and ends."""

    number: int
    state: str
    reason: str | None = None
    problem: JobFailure | None = None
    progress: JobProgress | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ENDED

    @property
    def why(self) -> str:
        """State, reason and way out in one sentence, for people."""
        if self.problem is None:
            return f"{self.state}: {self.reason}" if self.reason else self.state
        hint = f"; {self.problem.way_out}" if self.problem.way_out else ""
        return f"{self.state}: {self.problem.detail}{hint}"


class ImportView(JobView):
    """An import."""

    stored: int | None = None
    duplicates: int | None = None
    refused: int | None = None
    conflicts: int | None = None


class LedgerLineView(View):
    """What became of one source."""

    position: int
    location: str
    class_name: str | None = None
    status: str
    code: str | None = None
    detail: str | None = None
    sha256: str | None = None


class VersionView(View):
    """A frozen version."""

    number: int
    digest: str
    counts: dict[str, Any]


class MetricView(View):
    """A share with its 95 % interval and the number of images under it."""

    value: float
    low: float
    high: float
    n: int


class RunFilesView(View):
    """Where a run's files lie."""

    store: str
    spec: str
    manifest: str
    curves: str | None
    steps: str | None
    epochs: str | None
    report_loss: str | None
    report_label_issue: str | None
    rerun: str


class SplitMetricsView(View):
    """How often a run's model is wrong on one split."""

    images: int
    error: MetricView
    tta_error: MetricView | None
    log_loss: float
    log_loss_low: float | None = None
    log_loss_high: float | None = None


class CostView(View):
    """What a run took."""

    images_per_second: float | None
    cpu_utilisation: float
    gpu_utilisation: float | None
    peak_memory: int
    peak_gpu_memory: int | None
    stages: dict[str, float]


class RecipeView(View):
    """Training steps by name; `recipe` holds all of them."""

    name: str
    own: bool
    digest: str
    recipe: dict[str, Any]


class RunView(JobView):
    """A run."""

    dataset: str
    version: int
    recipe: str
    train_on: str = "train"
    """`all`: valid and test images too, so that it measures nothing."""
    twin: int | None = None
    """The run that tells how good a run on all images is."""
    seed: int
    launches: int = 0
    """How often it was begun."""
    gpus: int = 0
    """Of each node."""
    nodes: int = 1
    device: str | None = None
    seconds: dict[str, float] | None = None
    cost: CostView | None = None
    metrics: dict[str, SplitMetricsView] | None = None
    """By split; None until the run is done, empty where it trained on all images."""
    bundle_digest: str | None = None
    mlflow_url: str | None = None
    mlflow_run_id: str | None = None
    mlflow_version: str | None = None


class FiguresView(View):
    """The figures of one split."""

    images: int
    error: MetricView
    log_loss: float
    log_loss_low: float | None = None
    log_loss_high: float | None = None
    tta_error: MetricView | None


class ReportView(View):
    """The figures of one run."""

    run: int
    dataset: str
    version: int
    classes: tuple[str, ...]
    train_on: str
    """`all`: valid and test images too, so that there are no figures."""
    twin: int | None
    """The run that tells how good a run on all images is."""
    splits: dict[str, FiguresView]
    conflicts: int
    too_small: "FindingView | None"


class ConfusedView(View):
    """One label that was predicted as another class."""

    label: str
    predicted: str
    count: int
    share: MetricView


class LrFindView(View):
    """The rates that one lr-find stage of a run suggests."""

    stage: str
    """Name of the fit stage that it stands before."""
    suggestions: dict[str, float]
    reason: str | None
    """Why it suggests none."""
    disagreement: float | None
    lr: float | None
    """What `auto` stands for."""


class LrFindsView(View):
    """A run's lr-finds so far."""

    finds: tuple[LrFindView, ...]


class FindingView(View):
    """One thing that went wrong with a run."""

    code: str
    evidence: str
    way_out: str
    epochs: int | None


class DiagnosisView(View):
    """What went wrong with a run; no finding where nothing did."""

    run: int
    findings: tuple[FindingView, ...]


class PairedView(View):
    """Two runs under one set of labels; `p` by the exact McNemar test."""

    images: int
    error_a: MetricView
    error_b: MetricView
    p: float
    fixed: int
    broken: int


class SpreadFigures(View):
    """How far seeds lie apart."""

    seeds: int
    mean: float
    low: float
    high: float
    median: float
    least: float
    most: float
    standard_deviation: float
    apart: float


class SeedView(View):
    """One seed's run."""

    run: int
    seed: int
    error: MetricView


class SpreadView(View):
    """The runs on one version by one recipe."""

    run: int
    split: str
    seeds: tuple[SeedView, ...]
    spread: SpreadFigures | None
    words: str


class VerdictView(View):
    """Whether a difference is more than chance."""

    code: str
    words: str


class ComparisonView(View):
    """Run a against run b on the same images."""

    a: int
    b: int
    split: str
    images: int
    old_labels: PairedView
    cleaned_labels: PairedView
    verdict: VerdictView


class ReviewView(View):
    """A review."""

    number: int
    run: int
    dataset: str
    version: int
    order: str
    screen_size: int
    state: str
    images: int
    decided: int
    cleaned_version: int | None
    retraining_run: int | None

    @property
    def ended(self) -> bool:
        """Whether it is closed."""
        return self.state == "closed"


class ScreenImage(View):
    """One of the images of a screen."""

    rank: int
    sha256: str
    split: str
    label: str | None
    """None for a conflict."""
    predicted: str
    confidence: float
    loss: float | None
    label_issue: float


class ScreenView(View):
    """Some images, claimed by the caller; without images when none is free."""

    screen: str | None
    lease_until: datetime | None
    choices: tuple[str, ...]
    images: tuple[ScreenImage, ...]


class ClosedView(View):
    """What closing a review did."""

    review: ReviewView
    version: int
    digest: str
    written: dict[str, int]
    conflicts: tuple[dict[str, Any], ...]
    retraining_run: int | None


class EndpointView(View):
    """An endpoint."""

    name: str
    public: bool
    ready: bool
    url: str | None
    bundle: str | None
    replicas: int = 1
    most_replicas: int | None = None
    cpu: float | None = None
    memory: str | None = None


class EndpointStatus(View):
    """What should answer, and what really does."""

    name: str
    should_serve: str | None
    serves: str | None
    ready: bool
    url: str | None
    reason: str | None


class GateView(View):
    """A gate's judgement."""

    name: str
    passed: bool
    words: str


class PromotionView(View):
    """Bringing one run's bundle to an endpoint."""

    number: int
    run: int
    bundle: str
    state: str
    reason: str | None
    results: tuple[GateView, ...]

    @property
    def ended(self) -> bool:
        """Whether the promotion is decided."""
        return self.state not in {"checking", "rolling_out"}
