"""What the routes of imports take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Query
from pydantic import BaseModel

from api.tables import Import, ImportSource, Job
from bearloop.contract.imports import FolderSource, Source, UrlSource, ZipSource
from bearloop.contract.jobs import Problem, Progress

AskedSource = Annotated[FolderSource | ZipSource | UrlSource, Body(discriminator="kind")]
Status = Literal["stored", "duplicate", "refused"]
StatusFilter = Annotated[Status | None, Query(description="Only lines of this status.")]


class Upload(BaseModel):
    """A zip that lies in the project's store."""

    upload: str
    """Its sha256; a zip source names it."""
    bytes: int


class ImportView(BaseModel):
    """An import: what was asked for, how far it is, and what came of it."""

    number: int
    dataset: str
    state: str
    """queued, launched, running, done, failed or cancelled."""
    source: dict[str, Any]
    """As asked for; of long address lists only how many per class."""
    retry_of: int | None
    """Number of the import whose refused lines this one tries again."""
    progress: Progress | None
    stored: int | None
    """New to this import; NULL until it is done."""
    duplicates: int | None
    """Sources whose bytes came earlier in this import; their claims count all the same."""
    refused: int | None
    conflicts: int | None
    """Images of this import whose claims contradict each other."""
    reason: str | None
    """Why it waits, or why it failed."""
    problem: Problem | None
    """What was wrong with the source as a whole, and the way out."""
    created_at: datetime
    created_by: str
    finished_at: datetime | None


class SourceView(BaseModel):
    """A line of the ledger: what became of one file or address."""

    position: int
    location: str
    class_name: str | None
    split: str | None
    status: Status
    code: str | None
    """Why it was refused, stable; or `split_kept`: another split was there first."""
    detail: str | None
    sha256: str | None
    bytes: int | None
    content_type: str | None


def import_view(made: Import, job: Job, *, dataset: str, retry_of: int | None) -> ImportView:
    """Show an import beside its job."""
    return ImportView(
        number=made.number,
        dataset=dataset,
        state=job.state,
        source=_shown(made.source),
        retry_of=retry_of,
        progress=Progress.model_validate(job.progress) if job.progress else None,
        stored=made.stored,
        duplicates=made.duplicates,
        refused=made.refused,
        conflicts=made.conflicts,
        reason=job.reason,
        problem=Problem.model_validate(job.problem) if job.problem else None,
        created_at=made.created_at,
        created_by=made.created_by,
        finished_at=job.finished_at,
    )


def source_view(row: ImportSource) -> SourceView:
    """Show a line of the ledger."""
    return SourceView.model_validate(row, from_attributes=True)


def stored_source(source: Source) -> dict[str, Any]:
    """Return the source as the import's row keeps it."""
    return source.model_dump(mode="json")


def _shown(source: dict[str, Any]) -> dict[str, Any]:
    if "urls" not in source:
        return source
    return {**source, "urls": {name: len(listed) for name, listed in source["urls"].items()}}
