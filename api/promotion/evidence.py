"""What the gates look at, gathered from reports, stored files and a candidate's answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from api.merged_classes import as_merged
from api.promotion.asking import Classified, PictureRefusedError
from api.promotion.gates import Answer, ClassPair, Gate, NoClassFalls, NotWorseThanChampion, Parity
from api.tables import Report
from bearloop.contract.report import ReportRow, Summary
from bearloop.report_file import count_rows, iter_rows, read_columns, read_page
from bearloop.store import Store, image_key

HELD_OUT = ("valid", "test")
"""Splits that no model was trained on, but those of runs on all images."""


def sample_held_out(store: Store, report: Report, *, count: int) -> list[ReportRow]:
    """Take up to `count` valid and test images, spread evenly over the report's order of loss.

    That order is: conflicts, valid, train, test. So the ranks follow from the counts, and a report
    of a million rows is not read whole.
    """
    summary = Summary.model_validate(report.summary)
    splits, first = summary.splits, summary.conflicts
    valid, test = (splits[name].images if name in splits else 0 for name in HELD_OUT)
    total = count_rows(store, report.loss_key)
    chosen = min(count, valid + test)
    places = [place * (valid + test) // chosen for place in range(chosen)]
    ranks = [first + place if place < valid else total - valid - test + place for place in places]
    pages = (read_page(store, report.loss_key, start=rank, count=1) for rank in ranks)
    rows = [row for page in pages for row in page if row.split in HELD_OUT]
    return rows or list(islice(_held_out(store, report), count))


def sample_all(store: Store, report: Report, *, count: int) -> list[ReportRow]:
    """Take up to `count` images of any split, spread evenly over the report's order of loss.

    Whether the server says what the trainer saw is no matter of quality: of a run on all images
    those that it was trained on are as good as any.
    """
    first = Summary.model_validate(report.summary).conflicts
    total = count_rows(store, report.loss_key) - first
    chosen = min(count, total)
    ranks = [first + place * total // chosen for place in range(chosen)]
    return [row for rank in ranks for row in read_page(store, report.loss_key, start=rank, count=1)]


def ask_about(
    store: Store, rows: Sequence[ReportRow], *, ask: Callable[[bytes], Classified]
) -> list[Answer]:
    """Ask about the original stored files of these rows."""
    return [
        Answer(
            sha256=row.sha256,
            reported=tuple(zip(row.top_classes, row.top_probabilities, strict=True)),
            answered=_answered(store.get(image_key(row.sha256)), ask),
        )
        for row in rows
    ]


def pair_with_champion(
    store: Store,
    champion: Report,
    challenger: Report,
    *,
    names: Mapping[int, str],
    merged: Mapping[int, int],
) -> list[ClassPair]:
    """Count per class who was right, on the images held out from both; the newest labels count.

    `merged`: of each class that was merged, the one that it is part of now, by id. A champion that
    still tells the two apart is right with either. Reads the four columns that this takes, whole.
    """
    before = _held_out_columns(store, champion)
    after = _held_out_columns(store, challenger)
    after = after.filter(after["label"].is_valid())
    _, at_before, at_after = np.intersect1d(
        _sha256(before), _sha256(after), assume_unique=True, return_indices=True
    )
    label = as_merged(after["label"].to_numpy()[at_after].astype(np.int64), merged)
    old = as_merged(before["predicted"].to_numpy()[at_before], merged) == label
    new = as_merged(after["predicted"].to_numpy()[at_after], merged) == label
    return [
        _class_pair(names.get(one, f"class {one}"), old[label == one], new[label == one])
        for one in np.unique(label).tolist()
    ]


def images_to_ask(gates: Sequence[Gate]) -> int:
    """Return how many images the parity gates want."""
    return max((gate.images for gate in gates if isinstance(gate, Parity)), default=0)


def compares(gates: Sequence[Gate]) -> bool:
    """Tell whether a gate looks at the champion."""
    return any(isinstance(gate, NotWorseThanChampion | NoClassFalls) for gate in gates)


def _held_out(store: Store, report: Report) -> Iterator[ReportRow]:
    return (row for row in iter_rows(store, report.loss_key) if row.split in HELD_OUT)


def _held_out_columns(store: Store, report: Report) -> pa.Table:
    table = read_columns(store, report.loss_key, ("sha256", "split", "label", "predicted"))
    return table.filter(pc.is_in(table["split"], pa.array(HELD_OUT)))


def _sha256(table: pa.Table) -> NDArray[np.bytes_]:
    # Fixed width: sorted and joined without a Python object per image.
    return np.asarray(table["sha256"].to_numpy(), dtype="S64")


def _answered(picture: bytes, ask: Callable[[bytes], Classified]) -> dict[int, float]:
    try:
        answer = ask(picture)
    except PictureRefusedError:
        # The trainer read this picture: that the server cannot is a finding, not an accident.
        return {}
    return {entry.class_id: entry.probability for entry in answer.predictions}


def _class_pair(name: str, old: NDArray[np.bool_], new: NDArray[np.bool_]) -> ClassPair:
    """Count one class's images, on which the champion (`old`) and the challenger were right."""
    return ClassPair(
        name=name,
        images=len(old),
        champion_right=int(old.sum()),
        challenger_right=int(new.sum()),
        fixed=int((new & ~old).sum()),
        broken=int((old & ~new).sum()),
    )
