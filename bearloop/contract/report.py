"""What a run says of every image, and the figures over all of them."""

from typing import Literal

from pydantic import Field

from bearloop.contract.record import Record

SplitName = Literal["train", "valid", "test"]
TOP = 5
"""How many predictions a report keeps for each image (fewer when there are fewer classes)."""


class ReportRow(Record):
    """One image of the version; probabilities are of the fp32 model on `preprocess`ed originals."""

    sha256: str
    split: SplitName
    label: int | None
    """Class id; None for a conflict, which is predicted but not measured."""
    rank: int
    """Place in this file's order, from 0."""
    predicted: int
    """Class id of the highest probability."""
    confidence: float
    """p(predicted)."""
    p_label: float | None
    loss: float | None
    """-ln p(label); natural logarithm."""
    top_classes: tuple[int, ...]
    top_probabilities: tuple[float, ...]
    tta_predicted: int | None
    tta_p_label: float | None
    oof_predicted: int
    """Class id by the model of the folds that did not see this label."""
    oof_p_label: float | None
    oof_confidence: float
    """Out-of-fold p(oof_predicted)."""
    label_issue: float
    """0..1, higher is more likely a wrong label; a conflict is 1."""


class Metric(Record):
    """A share with its 95 % interval (Wilson) and the number of images under it."""

    value: float
    low: float
    high: float
    n: int


class SplitFigures(Record):
    """The figures of one split; `confusion[i][j]` counts label i predicted as j, in class order."""

    images: int
    error: Metric
    log_loss: float
    """Mean of -ln p(label)."""
    log_loss_low: float | None = Field(default=None, exclude_if=lambda end: end is None)
    """Its 95 % interval, by the spread of the images' losses; None of a single image, and in
    reports that are older than it."""
    log_loss_high: float | None = Field(default=None, exclude_if=lambda end: end is None)
    tta_error: Metric | None
    confusion: tuple[tuple[int, ...], ...]


class Summary(Record):
    """The report's aggregates, small enough for a database row."""

    classes: tuple[int, ...]
    """Class ids in the order of the confusion matrices."""
    splits: dict[SplitName, SplitFigures]
    """Only splits that hold labelled images; none where the run trained on all of them."""
    conflicts: int
    """Images without a label because of contradicting claims."""
