"""A new job: its row, queued for the worker."""

from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from api.bell import ring
from api.jobs.resources import Resources
from api.tables import Job
from bearloop.contract.imports import ImportSpec
from bearloop.contract.runs import RunSpec


def new_job_id() -> UUID:
    """Choose the id first: the spec names it."""
    return uuid4()


def queue_job(
    session: Session,
    project_id: int,
    spec: ImportSpec | RunSpec,
    *,
    resources: Resources | None = None,
) -> Job:
    """Add the job to the request's transaction; the worker claims it after the commit."""
    job = Job(
        id=UUID(spec.job),
        project_id=project_id,
        kind=spec.kind,
        spec=spec.model_dump(mode="json"),
        gpus=spec.nodes * spec.gpus if isinstance(spec, RunSpec) else 0,
        resources=(resources or Resources()).model_dump(exclude_none=True),
    )
    session.add(job)
    session.flush()
    ring(session)
    return job
