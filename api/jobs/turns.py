"""Whose turn it is: the project's quota of GPUs, read and taken in one transaction."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import Session

from api.jobs.quota import Share, why_waiting
from api.jobs.states import JobState
from api.tables import Job, Project, Run

LOCK: Final = 0x62656172
"""First key of the advisory locks on quotas; the second is the project."""
HOLDING: Final = (JobState.launched, JobState.running)


def why_not_yet(session: Session, job: Job) -> str | None:
    """Say why a queued job must wait for its project's quota; None: launch it.

    Until the transaction ends nobody else decides on a job of this project: two workers cannot give
    the last GPU to two runs.
    """
    if job.gpus == 0:
        return None
    session.execute(select(func.pg_advisory_xact_lock(LOCK, job.project_id % 2**31)))
    # Read behind the lock: the operator may have changed it while the job waited.
    quota, queue = session.execute(
        select(Project.gpu_quota, Project.queue).where(Project.id == job.project_id)
    ).one()
    if quota is None or queue is not None:
        return None
    number = session.scalars(select(Run.number).where(Run.job_id == job.id)).one()
    older = tuple_(Job.created_at, Run.number) < tuple_(job.created_at, number)
    return why_waiting(
        Share(number, job.gpus),
        quota=quota,
        using=_shares(session, job, Job.state.in_(HOLDING)),
        before=_shares(session, job, older, Job.state == JobState.queued, Job.gpus <= quota),
    )


def _shares(session: Session, job: Job, *which: ColumnElement[bool]) -> Sequence[Share]:
    rows = session.execute(
        select(Run.number, Job.gpus)
        .join(Job, Job.id == Run.job_id)
        .where(Job.project_id == job.project_id, Job.id != job.id, Job.gpus > 0, *which)
        .where(~Job.cancel_asked | Job.state.in_(HOLDING))
        .order_by(Run.number)
    )
    return [Share(number, gpus) for number, gpus in rows]
