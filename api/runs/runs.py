"""Runs asked for, listed, shown and cancelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as code_version
from typing import Final

from sqlalchemy import Row, Select, select, update
from sqlalchemy.orm import Session

from api import audit, leases
from api.access import Caller
from api.bell import ring
from api.datasets.find import find_dataset, find_version
from api.errors import ConflictError, NotFoundError
from api.jobs.new import new_job_id
from api.jobs.states import TERMINAL
from api.paging import Page, after_number, make_page
from api.runs.queueing import next_number, queue_run
from api.runs.recipe_store import checked_changes, find_recipe
from api.runs.recipes import Changes
from api.runs.resources import Asked, check_resources
from api.runs.schemas import NewRun, RunFilter, RunParts, RunView, StartedRuns, run_view
from api.runs.trainable import check_version, check_weights
from api.runs.twin_search import find_twin, find_twins
from api.settings import Settings
from api.tables import Dataset, Job, Project, Report, Run, Version
from bearloop.contract.recipes import Recipe
from bearloop.contract.runs import RunSpec

CODE_VERSION: Final = code_version("bearloop")


class UnknownRunError(NotFoundError):
    """The project has no run of this number."""

    code = "unknown_run"
    title = "Unknown run"


class RunEndedError(ConflictError):
    """The run has ended already."""

    code = "run_ended"
    title = "Run ended"


@dataclass(frozen=True)
class Asking:
    """Who asks, on what installation."""

    caller: Caller
    settings: Settings


def start_runs(session: Session, asking: Asking, new: NewRun) -> StartedRuns:
    """Check all that can be checked now, and queue a job for each seed."""
    caller = asking.caller
    dataset = find_dataset(session, caller, new.dataset)
    version = find_version(session, dataset, new.version or dataset.versions)
    check_version(version)
    recipe = _recipe(session, caller, new)
    project = session.get_one(Project, caller.project_id)
    check_weights(
        recipe.weights, allowed=tuple(project.allowed_sources), local=asking.settings.local
    )
    asked = check_resources(new, recipe, project=project, settings=asking.settings)
    first = next_number(session, caller, count=new.seeds)
    specs = [
        _spec(version, recipe, asking=asking, asked=asked, place=(first + index, new.seed + index))
        for index in range(new.seeds)
    ]
    runs = [
        queue_run(session, caller, version, spec=spec, resources=asked.of_each_pod)
        for spec in specs
    ]
    views = [_view(session, asking, number=run.number) for run in runs]
    return StartedRuns(items=views)


def list_runs(session: Session, asking: Asking, wanted: RunFilter) -> Page[RunView]:
    """List the project's runs, the newest first."""
    query = _parts_of(asking.caller).order_by(Run.number.desc()).limit(wanted.limit + 1)
    after = after_number(wanted.cursor)
    if after is not None:
        query = query.where(Run.number < after)
    if wanted.dataset is not None:
        query = query.where(Dataset.name == wanted.dataset)
    if wanted.state is not None:
        query = query.where(Job.state == wanted.state)
    rows: Sequence[RunParts] = [_parts(row) for row in session.execute(query)]
    twins = find_twins(session, [(parts.run, parts.spec.recipe) for parts in rows])
    return make_page(
        rows,
        limit=wanted.limit,
        key=lambda parts: [parts.run.number],
        item=lambda parts: run_view(
            parts, twin=twins.get(parts.run.id), tracking_url=asking.settings.pages_of_runs
        ),
    )


def show_run(session: Session, asking: Asking, number: int) -> RunView:
    """Show a run."""
    return _view(session, asking, number=number)


def find_run(session: Session, caller: Caller, number: int) -> RunParts:
    """Return the run's rows; raises UnknownRunError."""
    row = session.execute(_parts_of(caller).where(Run.number == number)).one_or_none()
    if row is None:
        raise UnknownRunError(
            f"the project {caller.project} has no run {number}",
            field="run",
            value=number,
            way_out="GET …/runs lists them",
        )
    return _parts(row)


def cancel_run(session: Session, asking: Asking, number: int) -> RunView:
    """Ask the worker to end the run; its checkpoints stay, its report never comes."""
    caller, parts = asking.caller, find_run(session, asking.caller, number)
    asked = session.scalar(
        update(Job)
        .where(Job.id == parts.job.id, Job.state.not_in(TERMINAL))
        .values(cancel_asked=True, due_at=leases.at_once())
        .returning(Job.id)
    )
    if asked is None:
        raise RunEndedError(
            f"run {number} is {parts.job.state}",
            field="state",
            value=str(parts.job.state),
            way_out="nothing is left to cancel",
        )
    ring(session)
    audit.record(session, caller, "run.cancel", target=f"{caller.project}/runs/{number}")
    session.refresh(parts.job)
    return _view(session, asking, number=number)


def _recipe(session: Session, caller: Caller, new: NewRun) -> Recipe:
    asked = new.recipe
    named = asked if isinstance(asked, Recipe) else find_recipe(session, caller, asked)
    given = new.model_fields_set & Changes.model_fields.keys()
    changes = Changes(**{name: getattr(new, name) for name in given})
    return checked_changes(named, changes)


def _spec(
    version: Version, recipe: Recipe, *, asking: Asking, asked: Asked, place: tuple[int, int]
) -> RunSpec:
    number, seed = place
    return RunSpec(
        job=str(new_job_id()),
        project=asking.caller.project,
        run=number,
        version_digest=version.digest,
        manifest_key=version.manifest_key,
        classes=check_version(version),
        recipe=recipe,
        seed=seed,
        device=asked.device,
        gpus=asked.gpus,
        nodes=asked.nodes,
        checkpoint_every=asked.checkpoint_every,
        code_version=CODE_VERSION,
    )


def _view(session: Session, asking: Asking, *, number: int) -> RunView:
    parts = find_run(session, asking.caller, number)
    twin = find_twin(session, parts.run, parts.spec.recipe)
    return run_view(parts, twin=twin, tracking_url=asking.settings.pages_of_runs)


def _parts_of(caller: Caller) -> Select[Run, Job, Version, Dataset, Report]:
    return (
        select(Run, Job, Version, Dataset, Report)
        .join(Job, Job.id == Run.job_id)
        .join(Version, Version.id == Run.version_id)
        .join(Dataset, Dataset.id == Version.dataset_id)
        .outerjoin(Report, Report.run_id == Run.id)
        .where(Run.project_id == caller.project_id)
    )


def _parts(row: Row[Run, Job, Version, Dataset, Report]) -> RunParts:
    run, job, version, dataset, report = row
    return RunParts(run=run, job=job, version=version, dataset=dataset, report=report)
