"""A run enters the queue: its number, its job and its row, in the request's transaction."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.jobs.new import queue_job
from api.jobs.resources import Resources
from api.tables import Project, Run, Version
from bearloop.contract.runs import RunSpec


def next_number(session: Session, caller: Caller, *, count: int = 1) -> int:
    """Take `count` numbers of the project's runs; return the first."""
    counted = (
        update(Project)
        .where(Project.id == caller.project_id)
        .values(runs=Project.runs + count)
        .returning(Project.runs)
    )
    return session.execute(counted).scalar_one() - count + 1


def queue_run(
    session: Session, caller: Caller, version: Version, *, spec: RunSpec, resources: Resources
) -> Run:
    """Queue the job of a complete spec, and make the run's row."""
    job = queue_job(session, caller.project_id, spec, resources=resources)
    run = Run(
        project_id=caller.project_id,
        number=spec.run,
        version_id=version.id,
        recipe=spec.recipe.name,
        recipe_digest=spec.recipe.digest(),
        seed=spec.seed,
        job_id=job.id,
        created_by=caller.name,
    )
    session.add(run)
    session.flush()
    target = f"{caller.project}/runs/{run.number}"
    audit.record(session, caller, "run.start", target=target, recipe=run.recipe, seed=run.seed)
    return run
