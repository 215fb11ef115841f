"""What a run leaves beside its report: curves and log."""

from sqlalchemy.orm import Session

from api.access import Caller
from api.errors import NotFoundError
from api.jobs.mailbox import Mailbox
from api.runs.runs import find_run
from api.runs.schemas import LogView
from api.tables import Job
from bearloop.contract.jobs import attempt_prefix
from bearloop.contract.runs import Curves
from bearloop.curves_file import CURVES_FILE
from bearloop.store import MissingObjectError, Store


class NoCurvesError(NotFoundError):
    """The run has no curves yet."""

    code = "no_curves"
    title = "No curves"


def read_log(
    session: Session, caller: Caller, number: int, *, store: Store, launch: int | None
) -> LogView:
    """Return the end of what a launch printed; the newest one when none is named."""
    job = find_run(session, caller, number).job
    wanted = launch or job.launch
    text = Mailbox(store, str(job.id)).log(wanted)
    return LogView(launch=wanted, text=text or "")


def read_curves(session: Session, caller: Caller, number: int, *, store: Store) -> Curves:
    """Return losses, rates and errors by step and epoch; raises NoCurvesError."""
    parts = find_run(session, caller, number)
    if parts.run.curves_key is not None:
        return Curves.model_validate_json(store.get(parts.run.curves_key))
    # They are there from the end of training on, or from where its input ended the run.
    found = _left(store, parts.job, CURVES_FILE)
    if found is None:
        raise NoCurvesError(
            f"run {number} is {parts.job.state}: its curves come with its end",
            field="state",
            value=str(parts.job.state),
            way_out="the newest figures are in the run's progress; MLflow shows all of them",
        )
    return Curves.model_validate_json(found)


def _left(store: Store, job: Job, file: str) -> bytes | None:
    """Return a file of the job's newest attempt, where it has one."""
    if job.attempt is None:
        return None
    try:
        return store.get(attempt_prefix(str(job.id), job.attempt) + file)
    except MissingObjectError:
        return None
