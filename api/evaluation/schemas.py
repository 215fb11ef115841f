"""What the evaluation routes answer; classes by name, images with links to their pictures."""

from pydantic import BaseModel, Field

from api.evaluation.noise import Shape
from api.evaluation.reports import Order
from bearloop.contract.recipes import TrainOn
from bearloop.contract.report import Metric, SplitFigures, SplitName
from bearloop.diagnosis import Finding
from bearloop.spread import Spread, Verdict


class ReportView(BaseModel):
    """The figures of one run."""

    run: int
    dataset: str
    version: int
    classes: list[str]
    """In the order of the confusion matrices."""
    train_on: TrainOn
    """`all`: the valid and test images too, so that the run has no figures."""
    twin: int | None
    """Of a run on all images: the run whose figures tell how good it is; None: none does yet."""
    splits: dict[SplitName, SplitFigures]
    conflicts: int
    """Images without a label because sources contradict each other."""
    too_small: Finding | None
    """Where the valid split is too small for its error to tell much: how many images would do."""


class ConfusionView(BaseModel):
    """`matrix[i][j]` counts images of label `classes[i]` that were predicted as `classes[j]`."""

    run: int
    split: SplitName
    classes: list[str]
    matrix: list[list[int]]


class ConfusedPair(BaseModel):
    """One label that was predicted as another class."""

    label: str
    predicted: str
    count: int
    share: Metric
    """Of the label's images in the split."""


class MostConfused(BaseModel):
    """Pairs of classes, the most confused first."""

    run: int
    split: SplitName
    pairs: list[ConfusedPair]


class ImagesAsked(BaseModel):
    """Which page of a report's images."""

    order: Order = "label_issue"
    split: SplitName | None = None
    """Absent: all."""
    cursor: str | None = None
    """`next` of the page before; absent for the first."""
    limit: int = Field(default=50, ge=1, le=1000)


class Guess(BaseModel):
    """A class and the probability that the model gives it."""

    name: str
    probability: float


class ReportImage(BaseModel):
    """What the run says of one image."""

    rank: int
    sha256: str
    split: SplitName
    label: str | None
    """None for a conflict."""
    predicted: str
    confidence: float
    p_label: float | None
    loss: float | None
    label_issue: float
    top: list[Guess]
    oof_predicted: str
    """By the model that did not see this label."""
    oof_p_label: float | None
    thumbnail: str
    content: str


class LeakView(BaseModel):
    """Labels of a class that look like another one."""

    to: str
    images: int
    share: float


class ClassNoiseView(BaseModel):
    """How many labels of one class are estimated to be wrong."""

    label: str
    images: int
    wrong: Metric | None
    """None when the models are sure of no image of the class."""
    shape: Shape
    leaks: list[LeakView]


class NoiseView(BaseModel):
    """The label noise of each class, estimated by models that did not see the labels."""

    run: int
    classes: list[ClassNoiseView]


class DiagnosisView(BaseModel):
    """What went wrong with a run."""

    run: int
    findings: list[Finding]
    """Empty where nothing did, and of a run on all images, which measures nothing."""


class DifferenceView(BaseModel):
    """Error of b less error of a with its 95 % interval; below 0, b is better."""

    value: float
    low: float
    high: float


class ClassChangeView(BaseModel):
    """One class's error by each run."""

    label: str
    error_a: Metric
    error_b: Metric


class PairedView(BaseModel):
    """Two runs under one set of labels."""

    images: int
    error_a: Metric
    error_b: Metric
    difference: DifferenceView
    p: float
    """Exact McNemar test, two-sided."""
    fixed: int
    """Images that a has wrong and b right."""
    broken: int
    """Images that a has right and b wrong."""
    classes: list[ClassChangeView]


class SeedView(BaseModel):
    """One seed's run."""

    run: int
    seed: int
    error: Metric


class SpreadView(BaseModel):
    """The runs on one version by one recipe, whatever their seed."""

    run: int
    """The one that was asked for."""
    split: SplitName
    seeds: list[SeedView]
    spread: Spread | None
    """None for one seed."""
    words: str


class FlipView(BaseModel):
    """One image on which one run only is right."""

    sha256: str
    label: str
    predicted_a: str
    predicted_b: str
    thumbnail: str
    content: str


class ComparisonView(BaseModel):
    """Run a against run b on the same images."""

    a: int
    b: int
    split: SplitName
    images: int
    only_a: int
    """Labelled images of the split that only a's version holds, e.g. since removed."""
    only_b: int
    verdict: Verdict
    """Whether the difference under the cleaned labels is more than chance, of images or seeds."""
    relabelled: int
    """Images of these whose label differs between the versions."""
    old_labels: PairedView
    """Under the labels of a's version."""
    cleaned_labels: PairedView
    """Under the labels of b's version."""
    fixed: list[FlipView]
    """Under the cleaned labels; at most 100."""
    broken: list[FlipView]
