"""The runs that differ from a run in nothing but their seed, and how far apart they lie."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.evaluation.reports import RunReport, figures_of
from api.tables import Report, Run
from bearloop.contract.report import Metric, SplitName, Summary
from bearloop.spread import seeds_apart


class SeedError(NamedTuple):
    """How often one seed's run is wrong."""

    run: int
    seed: int
    error: Metric


def errors_by_seed(session: Session, report: RunReport, split: SplitName) -> list[SeedError]:
    """List the runs with a report on the same version by the same recipe, each seed's first one.

    Raises NoSuchSplitError where the run itself measured no image of the split.
    """
    figures_of(report, split)
    rows = session.execute(
        select(Run.number, Run.seed, Report.summary)
        .join(Report, Report.run_id == Run.id)
        .where(
            Run.version_id == report.run.version_id,
            Run.recipe_digest == report.run.recipe_digest,
        )
        .order_by(Run.number)
    )
    found: dict[int, SeedError] = {}
    for number, seed, summary in rows:
        figures = Summary.model_validate(summary).splits.get(split)
        if figures is not None:
            found.setdefault(seed, SeedError(number, seed, figures.error))
    return sorted(found.values(), key=lambda one: one.seed)


def apart(session: Session, reports: Sequence[RunReport], split: SplitName) -> float | None:
    """Return what seeds alone make two such runs differ by; None where each has one seed."""
    unlike = {(one.run.version_id, one.run.recipe_digest): one for one in reports}
    groups = [errors_by_seed(session, one, split) for one in unlike.values()]
    return seeds_apart([[seed.error.value for seed in group] for group in groups])
