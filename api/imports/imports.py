"""Imports asked for, looked at, tried again and cancelled."""

from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api import audit, leases
from api.access import Caller
from api.bell import ring
from api.dataset import find_dataset
from api.errors import ConflictError, NotFoundError
from api.imports.plan import Terms, plan, worth_retrying
from api.imports.schemas import ImportView, SourceView, import_view, source_view, stored_source
from api.imports.sources import Surroundings, check_source
from api.jobs.new import new_job_id, queue_job
from api.paging import Page, after_number, make_page
from api.settings import Settings
from api.tables import Dataset, Import, ImportSource, Job, JobState, Project
from bearloop.contract.imports import ImportSpec, Source
from bearloop.store import Store

FINISHED: Final = (JobState.done, JobState.failed, JobState.cancelled)


class UnknownImportError(NotFoundError):
    """The dataset has no import of this number."""

    code = "unknown_import"
    title = "Unknown import"


class ImportRunningError(ConflictError):
    """The import has not ended yet."""

    code = "import_running"
    title = "Import running"


class ImportEndedError(ConflictError):
    """The import has ended already."""

    code = "import_ended"
    title = "Import ended"


class NothingToRetryError(ConflictError):
    """No refused line of the import would fare better."""

    code = "nothing_to_retry"
    title = "Nothing to retry"


@dataclass(frozen=True)
class Asking:
    """Who asks, for which dataset, on what installation."""

    caller: Caller
    dataset: str
    settings: Settings


@dataclass(frozen=True)
class _Found:
    dataset: Dataset
    made: Import
    job: Job


def start_import(session: Session, asking: Asking, *, source: Source, store: Store) -> ImportView:
    """Check the source, and queue the job that imports it."""
    dataset = find_dataset(session, asking.caller, asking.dataset)
    project = session.get_one(Project, asking.caller.project_id)
    around = Surroundings(store, tuple(project.allowed_sources), asking.settings.local)
    check_source(source, around)
    return _start(session, asking, dataset, source=source)


def list_imports(
    session: Session, caller: Caller, dataset: str, *, cursor: str | None, limit: int
) -> Page[ImportView]:
    """List the dataset's imports, the newest first."""
    found = find_dataset(session, caller, dataset)
    query = (
        select(Import, Job)
        .join(Job, Job.id == Import.job_id)
        .where(Import.dataset_id == found.id)
        .order_by(Import.number.desc())
        .limit(limit + 1)
    )
    after = after_number(cursor)
    if after is not None:
        query = query.where(Import.number < after)
    rows = [_Found(found, made, job) for made, job in session.execute(query)]
    return make_page(
        rows, limit=limit, key=lambda row: [row.made.number], item=lambda row: _view(session, row)
    )


def show_import(session: Session, caller: Caller, dataset: str, *, number: int) -> ImportView:
    """Show one import."""
    return _view(session, _find(session, caller, dataset, number=number))


def list_sources(
    session: Session, row: Import, *, status: str | None, cursor: str | None, limit: int
) -> Page[SourceView]:
    """List the import's ledger in source order."""
    query = (
        select(ImportSource)
        .where(ImportSource.import_id == row.id)
        .order_by(ImportSource.position)
        .limit(limit + 1)
    )
    if status is not None:
        query = query.where(ImportSource.status == status)
    after = after_number(cursor)
    if after is not None:
        query = query.where(ImportSource.position > after)
    lines = session.scalars(query).all()
    return make_page(lines, limit=limit, key=lambda line: [line.position], item=source_view)


def find_import(session: Session, caller: Caller, dataset: str, *, number: int) -> Import:
    """Return the import's row; raises UnknownImportError."""
    return _find(session, caller, dataset, number=number).made


def retry_import(session: Session, asking: Asking, *, number: int) -> ImportView:
    """Import again what may succeed now: refused lines that may pass, or all if the job failed."""
    found = _find(session, asking.caller, asking.dataset, number=number)
    only = _to_retry(session, found)
    source: Source = TypeAdapter(Source).validate_python(found.made.source)
    return _start(session, asking, found.dataset, source=source, only=only, retry_of=found.made)


def cancel_import(session: Session, caller: Caller, dataset: str, *, number: int) -> ImportView:
    """Ask the worker to end the job; what it stored stays, unnamed by the dataset."""
    found = _find(session, caller, dataset, number=number)
    asked = session.scalar(
        update(Job)
        .where(Job.id == found.job.id, Job.state.not_in(FINISHED))
        .values(cancel_asked=True, due_at=leases.at_once())
        .returning(Job.id)
    )
    if asked is None:
        raise ImportEndedError(
            f"import {number} is {found.job.state}",
            field="state",
            value=str(found.job.state),
            way_out="nothing is left to cancel; its images can be removed one by one",
        )
    ring(session)
    audit.record(session, caller, "import.cancel", target=_path(caller, dataset, number))
    session.refresh(found.job)
    return _view(session, found)


def _start(
    session: Session,
    asking: Asking,
    dataset: Dataset,
    *,
    source: Source,
    only: tuple[int, ...] | None = None,
    retry_of: Import | None = None,
) -> ImportView:
    caller = asking.caller
    terms = Terms(caller.project, dataset.name, asking.settings.allow_private_addresses)
    (spec,) = plan(source, terms, jobs=[str(new_job_id())], only=only)
    job = queue_job(session, caller.project_id, spec)
    made = Import(
        dataset_id=dataset.id,
        number=_next_number(session, dataset),
        job_id=job.id,
        source=stored_source(source),
        retry_of=retry_of.id if retry_of else None,
        created_by=caller.name,
    )
    session.add(made)
    session.flush()
    target = _path(caller, dataset.name, made.number)
    audit.record(session, caller, "import.start", target=target, kind=source.kind)
    return _view(session, _Found(dataset, made, job))


def _to_retry(session: Session, found: _Found) -> tuple[int, ...] | None:
    if found.job.state not in FINISHED:
        raise ImportRunningError(
            f"import {found.made.number} is {found.job.state}",
            field="state",
            value=str(found.job.state),
            way_out="wait until it has ended, or cancel it",
        )
    if found.job.state != JobState.done:
        return ImportSpec.model_validate(found.job.spec).only
    refused = select(ImportSource.position, ImportSource.code).where(
        ImportSource.import_id == found.made.id, ImportSource.status == "refused"
    )
    positions = worth_retrying(session.execute(refused))
    if not positions:
        raise NothingToRetryError(
            f"no refused line of import {found.made.number} may succeed unchanged",
            field="refused",
            value=found.made.refused,
            way_out="GET …/sources?status=refused says why; mend the sources and import them",
        )
    return positions


def _find(session: Session, caller: Caller, dataset: str, *, number: int) -> _Found:
    found = find_dataset(session, caller, dataset)
    row = session.execute(
        select(Import, Job)
        .join(Job, Job.id == Import.job_id)
        .where(Import.dataset_id == found.id, Import.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownImportError(
            f"the dataset {dataset} has no import {number}",
            field="import",
            value=number,
            way_out="GET …/imports lists them",
        )
    return _Found(found, row[0], row[1])


def _view(session: Session, found: _Found) -> ImportView:
    retried = session.get(Import, found.made.retry_of) if found.made.retry_of else None
    return import_view(
        found.made,
        found.job,
        dataset=found.dataset.name,
        retry_of=retried.number if retried else None,
    )


def _next_number(session: Session, dataset: Dataset) -> int:
    counted = (
        update(Dataset)
        .where(Dataset.id == dataset.id)
        .values(imports=Dataset.imports + 1)
        .returning(Dataset.imports)
    )
    return session.execute(counted).scalar_one()


def _path(caller: Caller, dataset: str, number: int) -> str:
    return f"/v1/projects/{caller.project}/datasets/{dataset}/imports/{number}"
