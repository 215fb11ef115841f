"""The report that tells how good a run's model is: its own, or of one on all images its twin's."""

from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.runs.twin_search import find_twin
from api.tables import Job, Report, Run
from bearloop.contract.runs import RunSpec


class Measured(NamedTuple):
    """What may be evidence of a run: never an image that its model was trained on."""

    report: Report | None
    """None: it has none, or was trained on all images and has no twin."""
    twin: int | None = None
    """Number of the run whose report it is, where the run itself was trained on all images."""


NOT_MEASURED: Final = Measured(None)


def measured(session: Session, run_id: int) -> Measured:
    """Find the report whose figures may speak for a run."""
    run = session.get_one(Run, run_id)
    recipe = RunSpec.model_validate(session.get_one(Job, run.job_id).spec).recipe
    if recipe.train_on == "train":
        return Measured(session.get(Report, run_id))
    twin = find_twin(session, run, recipe)
    of_twin = (
        select(Report)
        .join(Run, Run.id == Report.run_id)
        .where(Run.project_id == run.project_id, Run.number == twin)
    )
    return Measured(session.scalar(of_twin), twin)
