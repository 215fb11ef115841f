"""A run's report: its figures in the database, its rows by range reads from the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Caller
from api.errors import NotFoundError
from api.evaluation.noise import OutOfFold
from api.merged_classes import merged_classes
from api.paging import after_number
from api.runs.runs import find_run
from api.runs.twin_search import find_twin, full_run
from api.runs.twins import way_to_twin
from api.tables import Class, Dataset, Run, Version
from bearloop.contract.recipes import TrainOn
from bearloop.contract.report import ReportRow, SplitFigures, SplitName, Summary
from bearloop.report_file import read_columns, read_page, read_split_page
from bearloop.store import Store

Order = Literal["loss", "label_issue"]
SPLITS: tuple[SplitName, ...] = ("valid", "test", "train")
"""By how much a figure on them says of pictures that the run did not learn."""


class NoReportError(NotFoundError):
    """The run has no report, or none yet."""

    code = "no_report"
    title = "No report"


class NoSuchSplitError(NotFoundError):
    """The run measured no labelled image of this split; one on all images measured none at all."""

    code = "empty_split"
    title = "Empty split"


@dataclass(frozen=True)
class RunReport:
    """A report with what it is about."""

    run: Run
    version: Version
    dataset: Dataset
    summary: Summary
    names: dict[int, str]
    """Today's name of each class of the dataset, by id; merged ones too."""
    merged: dict[int, int]
    """Of each merged class, the one that it is part of now, by id."""
    keys: dict[Order, str]
    """Parquet file of each order, in the project's store."""
    train_on: TrainOn = "train"
    twin: int | None = None
    """Of a run on all images: the run that tells how good it is."""

    @property
    def way_to_twin(self) -> str:
        """Say where the figures are that a run on all images has none of."""
        return way_to_twin(full_run(self.run, self.version, self.dataset), self.twin)


def find_report(session: Session, caller: Caller, number: int) -> RunReport:
    """Find the report of the project's run; raises UnknownRunError and NoReportError."""
    found = find_run(session, caller, number)
    report = found.report
    if report is None:
        raise NoReportError(
            f"run {number} has not written a report",
            field="run",
            value=number,
            way_out=f"poll /v1/projects/{caller.project}/runs/{number} until it is done",
        )
    recipe = found.spec.recipe
    return RunReport(
        run=found.run,
        version=found.version,
        dataset=found.dataset,
        summary=Summary.model_validate(report.summary),
        names=class_names(session, found.dataset.id),
        merged=merged_classes(session, found.dataset.id),
        keys={"loss": report.loss_key, "label_issue": report.label_issue_key},
        train_on=recipe.train_on,
        twin=find_twin(session, found.run, recipe),
    )


def class_names(session: Session, dataset_id: int) -> dict[int, str]:
    """Return the name of each class that the dataset ever had, by id, in order."""
    rows = session.scalars(
        select(Class).where(Class.dataset_id == dataset_id).order_by(Class.position)
    )
    return {row.id: row.name for row in rows}


def figures_of(report: RunReport, split: SplitName | None) -> tuple[SplitName, SplitFigures]:
    """Return the figures of the split, or of the one that counts; raises NoSuchSplitError."""
    chosen = split or measured_split(report.summary)
    figures = report.summary.splits.get(chosen)
    if figures is None and report.train_on == "all":
        raise NoSuchSplitError(
            f"run {report.run.number} was trained on all images of version "
            f"{report.version.number}, so none is held out and nothing is measured",
            field="split",
            value=chosen,
            way_out=report.way_to_twin,
        )
    if figures is None:
        held = ", ".join(split for split in SPLITS if split in report.summary.splits)
        raise NoSuchSplitError(
            f"run {report.run.number} measured no image of the split {chosen!r}",
            field="split",
            value=chosen,
            way_out=f"ask for one of: {held}" if held else "give the dataset a valid share",
        )
    return chosen, figures


def measured_split(summary: Summary) -> SplitName:
    """Choose what a run is judged on: valid, which every run has and recipes are tuned by."""
    return next((split for split in SPLITS if split in summary.splits), "valid")


def image_rows(
    store: Store,
    report: RunReport,
    *,
    order: Order,
    split: SplitName | None,
    cursor: str | None,
    limit: int,
) -> Sequence[ReportRow]:
    """Return up to `limit` + 1 rows after the cursor's rank, by range reads of the file."""
    after = after_number(cursor)
    start = 0 if after is None else after + 1
    key = report.keys[order]
    if split is None:
        return read_page(store, key, start=start, count=limit + 1)
    return read_split_page(store, key, split=split, start=start, count=limit + 1)


def out_of_fold(store: Store, report: RunReport) -> OutOfFold:
    """Read the labelled images' out-of-fold columns; conflicts have no label to doubt."""
    names = ("label", "oof_predicted", "oof_p_label", "oof_confidence")
    table = read_columns(store, report.keys["loss"], names)
    table = table.filter(table["label"].is_valid())
    label, predicted, p_label, confidence = (table[name].to_numpy() for name in names)
    return OutOfFold(
        label=label.astype(np.int64),
        predicted=predicted.astype(np.int64),
        p_label=p_label.astype(np.float64),
        confidence=confidence.astype(np.float64),
    )
