"""The comparison of two runs: their reports' rows, brought together image by image."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from api.errors import UnprocessableError
from api.evaluation.comparison import Paired, Pairs, compare, flips
from api.evaluation.reports import RunReport
from api.merged_classes import as_merged
from bearloop.contract.report import SplitName
from bearloop.report_file import read_columns
from bearloop.store import Store

LISTED = 100
"""Flipped images that an answer names, each way."""


class NotComparableError(UnprocessableError):
    """The runs have no images in common to be measured on."""

    code = "not_comparable"
    title = "Not comparable"


@dataclass(frozen=True)
class Flip:
    """One image on which exactly one of the runs is right, under the cleaned labels."""

    sha256: str
    label: int
    predicted_a: int
    predicted_b: int


@dataclass(frozen=True)
class Comparison:
    """Run a against run b on the images that both versions hold in the split."""

    split: SplitName
    images: int
    only_a: int
    """Labelled images of the split that only a's version holds, e.g. since removed."""
    only_b: int
    old_labels: Paired
    """Measured under the labels of a's version."""
    cleaned_labels: Paired
    """Measured under the labels of b's version."""
    relabelled: int
    """Images of these whose label differs between the versions; that of merged classes does not."""
    fixed: tuple[Flip, ...]
    """Wrong by a and right by b under the cleaned labels; the first hundred by sha256."""
    broken: tuple[Flip, ...]


@dataclass(frozen=True)
class _Column:
    """One run's labelled images of the split, sorted by sha256; classes as merged by now."""

    sha256: NDArray[np.str_]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]


def compare_runs(store: Store, a: RunReport, b: RunReport) -> Comparison:
    """Compare on the test split if both runs have it, else on valid; plain predictions.

    A class that was merged into another one counts as that one, in labels and predictions.
    Raises NotComparableError when the runs share no dataset or no labelled image.
    """
    split = _shared_split(a, b)
    left, right = _column(store, a, split), _column(store, b, split)
    shared, at_a, at_b = np.intersect1d(
        left.sha256, right.sha256, assume_unique=True, return_indices=True
    )
    old = Pairs(left.label[at_a], left.predicted[at_a], right.predicted[at_b])
    cleaned = old._replace(label=right.label[at_b])
    classes = list(b.names)
    old_labels, cleaned_labels = compare(old, classes), compare(cleaned, classes)
    if old_labels is None or cleaned_labels is None:
        raise _nothing_shared(a, b, f"share no labelled image of the split {split!r}")
    fixed, broken = flips(cleaned)
    return Comparison(
        split=split,
        images=len(shared),
        only_a=len(left.sha256) - len(shared),
        only_b=len(right.sha256) - len(shared),
        old_labels=old_labels,
        cleaned_labels=cleaned_labels,
        relabelled=int(np.count_nonzero(old.label != cleaned.label)),
        fixed=_listed(shared, cleaned, fixed),
        broken=_listed(shared, cleaned, broken),
    )


def _shared_split(a: RunReport, b: RunReport) -> SplitName:
    if a.dataset.id != b.dataset.id:
        raise _nothing_shared(a, b, f"saw datasets {a.dataset.name!r} and {b.dataset.name!r}")
    for report, field in ((a, "a"), (b, "b")):
        if report.train_on == "all":
            raise NotComparableError(
                f"run {report.run.number} was trained on all images: none is held out to compare "
                "it on",
                field=field,
                value=report.run.number,
                way_out=report.way_to_twin,
            )
    for split in ("test", "valid"):
        if split in a.summary.splits and split in b.summary.splits:
            return split
    raise _nothing_shared(a, b, "were measured on no split in common but train")


def _column(store: Store, report: RunReport, split: SplitName) -> _Column:
    names = ("sha256", "split", "label", "predicted")
    table = read_columns(store, report.keys["loss"], names)
    own = pc.and_(pc.equal(table["split"], split), pc.is_valid(table["label"]))
    table = table.filter(own).sort_by("sha256")
    return _Column(
        # Fixed width: sorted and joined without a Python object per image.
        sha256=table["sha256"].to_numpy().astype("U64"),
        label=as_merged(table["label"].to_numpy().astype(np.int64), report.merged),
        predicted=as_merged(table["predicted"].to_numpy().astype(np.int64), report.merged),
    )


def _listed(shared: NDArray[np.str_], pairs: Pairs, places: NDArray[np.intp]) -> tuple[Flip, ...]:
    return tuple(
        Flip(str(shared[at]), int(pairs.label[at]), int(pairs.a[at]), int(pairs.b[at]))
        for at in places[:LISTED]
    )


def _nothing_shared(a: RunReport, b: RunReport, why: str) -> NotComparableError:
    return NotComparableError(
        f"runs {a.run.number} and {b.run.number} {why}",
        field="b",
        value=b.run.number,
        way_out="compare runs of two versions of one dataset",
    )
