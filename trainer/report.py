"""What a run says of every image, in two orders, and the figures over all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.recipes import TrainOn
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import TOP, ReportRow, SplitFigures, SplitName, Summary
from bearloop.intervals import wilson
from bearloop.report_file import write_report
from bearloop.store import Store
from trainer.data import Item
from trainer.evaluate import log_softmax, mean_loss
from trainer.label_issues import CONFLICT, label_issue_scores

Order = Literal["loss", "label_issue"]
SPLIT_ORDER: Final[dict[SplitName, int]] = {"valid": 0, "train": 1, "test": 2}
"""The lesson's: the top losses of the validation set are looked at first."""

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """What the run's models say of every image; all arrays are in the items' order."""

    items: Sequence[Item]
    classes: tuple[ClassEntry, ...]
    """In the order of the columns."""
    logits: Floats
    """[n, classes] of the trained model, plain pictures."""
    tta: Floats | None
    """[n, classes] probabilities averaged over views."""
    out_of_fold: Floats
    """[n, classes] probabilities by models that did not see the label."""
    train_on: TrainOn = "train"
    """What the trained model learnt from."""

    @cached_property
    def labels(self) -> Places:
        """Place of each label in the class order, [n]; CONFLICT for none."""
        return np.array([CONFLICT if i.label is None else i.label for i in self.items], np.int64)

    @cached_property
    def probabilities(self) -> Floats:
        """[n, classes] of the trained model, plain pictures."""
        return np.exp(self._log_p).astype(np.float32)

    @cached_property
    def losses(self) -> Floats:
        """-ln p(label), [n]; infinite for a conflict, which thereby sorts first."""
        found = np.full(len(self.items), np.inf, dtype=np.float32)
        known = np.flatnonzero(self.labels != CONFLICT)
        found[known] = np.maximum(-self._log_p[known, self.labels[known]], 0)
        return found

    @cached_property
    def label_issues(self) -> Floats:
        """How likely each label is wrong, 0..1, [n]."""
        return label_issue_scores(self.labels, self.out_of_fold).astype(np.float32)

    @cached_property
    def _log_p(self) -> NDArray[np.float64]:
        return log_softmax(self.logits)


def save_reports(store: Store, prefix: str, predictions: Predictions) -> dict[Order, str]:
    """Write the report once in each order below `prefix` and return the keys."""
    keys: dict[Order, str] = {}
    for order in get_args(Order):
        keys[order] = f"{prefix}report-{order}.parquet"
        store.put(keys[order], write_report(report_rows(predictions, order)))
    return keys


def report_rows(predictions: Predictions, order: Order) -> Iterator[ReportRow]:
    """Yield every image's row in this order, `rank` from 0."""
    for rank, place in enumerate(ranking(predictions, order)):
        yield row(predictions, int(place), rank)


def ranking(predictions: Predictions, order: Order) -> Places:
    """Return the images' places, the first to look at first; equals are ordered by sha256.

    Conflicts lead. Then `loss` is valid, train, test with the highest loss first in each (where the
    run learnt from all, all are alike), and `label_issue` the highest score first.
    """
    labelled = predictions.labels != CONFLICT
    shas = np.array([item.sha256 for item in predictions.items])
    if order == "label_issue":
        return np.lexsort((shas, -predictions.label_issues, labelled))
    if predictions.train_on == "all":
        return np.lexsort((shas, -predictions.losses, labelled))
    splits = np.array([SPLIT_ORDER[item.split] for item in predictions.items])
    return np.lexsort((shas, -predictions.losses, splits, labelled))


def summarise(predictions: Predictions) -> Summary:
    """Add up the figures of each split that holds labelled images; of none where all were learnt.

    What a model says of images that it learnt from says nothing of others.
    """
    splits = np.array([item.split for item in predictions.items])
    labelled = predictions.labels != CONFLICT
    figures: dict[SplitName, SplitFigures] = {}
    for split in SPLIT_ORDER if predictions.train_on == "train" else ():
        places = np.flatnonzero(labelled & (splits == split))
        if len(places):
            figures[split] = _figures(predictions, places)
    return Summary(
        classes=tuple(entry.id for entry in predictions.classes),
        splits=figures,
        conflicts=int((~labelled).sum()),
    )


def row(predictions: Predictions, place: int, rank: int) -> ReportRow:
    """Say what the models say of the image at this place of the items."""
    item, ids = predictions.items[place], [entry.id for entry in predictions.classes]
    p, oof = predictions.probabilities[place], predictions.out_of_fold[place]
    tta = None if predictions.tta is None else predictions.tta[place]
    # By logits, not by probabilities: two that both round to 0 still have an order.
    top = np.argsort(-predictions.logits[place], kind="stable")[:TOP]
    label = item.label
    return ReportRow(
        sha256=item.sha256,
        split=item.split,
        label=None if label is None else ids[label],
        rank=rank,
        predicted=ids[top[0]],
        confidence=float(p[top[0]]),
        p_label=None if label is None else float(p[label]),
        loss=None if label is None else float(predictions.losses[place]),
        top_classes=tuple(ids[column] for column in top),
        top_probabilities=tuple(float(p[column]) for column in top),
        tta_predicted=None if tta is None else ids[int(tta.argmax())],
        tta_p_label=None if tta is None or label is None else float(tta[label]),
        oof_predicted=ids[int(oof.argmax())],
        oof_p_label=None if label is None else float(oof[label]),
        oof_confidence=float(oof.max()),
        label_issue=float(predictions.label_issues[place]),
    )


def _figures(predictions: Predictions, places: Places) -> SplitFigures:
    labels = predictions.labels[places]
    predicted = predictions.logits[places].argmax(axis=1)
    confusion = np.zeros((len(predictions.classes),) * 2, dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    tta_error = None
    if predictions.tta is not None:
        wrong = int((predictions.tta[places].argmax(axis=1) != labels).sum())
        tta_error = wilson(wrong, len(places))
    loss = mean_loss(predictions.losses[places])
    return SplitFigures(
        images=len(places),
        error=wilson(int((predicted != labels).sum()), len(places)),
        log_loss=loss.value,
        log_loss_low=loss.low,
        log_loss_high=loss.high,
        tta_error=tta_error,
        confusion=tuple(tuple(int(count) for count in line) for line in confusion),
    )
