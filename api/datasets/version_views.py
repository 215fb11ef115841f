"""Versions made by request, listed, shown and compared."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.dataset import find_dataset
from api.datasets.find import find_version
from api.datasets.schemas import DiffView, MovedView, RelabelledView, VersionView
from api.datasets.versions import diff, freeze_or_find, read_rows
from api.paging import Page, after_number, make_page
from api.tables import Dataset, Version
from bearloop.contract.record import ClassEntry
from bearloop.store import Store


def freeze_now(
    session: Session, caller: Caller, dataset: str, *, store: Store
) -> tuple[VersionView, bool]:
    """Freeze everything current; tell whether that made a version or found one."""
    found = find_dataset(session, caller, dataset)
    frozen = freeze_or_find(session, store, found, actor=caller.name)
    view = _view(session, found, frozen.version)
    if frozen.new:
        audit.record(
            session, caller, "version.freeze", target=version_path(caller, view), digest=view.digest
        )
    return view, frozen.new


def list_versions(
    session: Session, caller: Caller, dataset: str, *, cursor: str | None, limit: int
) -> Page[VersionView]:
    """List the dataset's versions, the newest first."""
    found = find_dataset(session, caller, dataset)
    query = (
        select(Version)
        .where(Version.dataset_id == found.id)
        .order_by(Version.number.desc())
        .limit(limit + 1)
    )
    after = after_number(cursor)
    if after is not None:
        query = query.where(Version.number < after)
    rows = session.scalars(query).all()
    return make_page(
        rows,
        limit=limit,
        key=lambda row: [row.number],
        item=lambda row: _view(session, found, row),
    )


def show_version(session: Session, caller: Caller, dataset: str, *, number: int) -> VersionView:
    """Show one version."""
    found = find_dataset(session, caller, dataset)
    return _view(session, found, find_version(session, found, number))


def read_manifest_file(
    session: Session, dataset: Dataset, *, number: int, store: Store
) -> tuple[bytes, str]:
    """Return the manifest's Parquet bytes, and the version's digest."""
    version = find_version(session, dataset, number)
    return store.get(version.manifest_key), version.digest


def compare_versions(
    session: Session, dataset: Dataset, *, numbers: tuple[int, int], store: Store, limit: int
) -> DiffView:
    """List what the first of two versions has changed from the second."""
    version, against = (find_version(session, dataset, number) for number in numbers)
    found = diff(read_rows(store, against), read_rows(store, version))
    return DiffView(
        version=version.number,
        against=against.number,
        counts={name: len(part) for name, part in found._asdict().items()},
        added=found.added[:limit],
        removed=found.removed[:limit],
        relabelled=[
            RelabelledView.model_validate(c, from_attributes=True) for c in found.relabelled[:limit]
        ],
        moved=[MovedView.model_validate(c, from_attributes=True) for c in found.moved[:limit]],
    )


def version_path(caller: Caller, view: VersionView) -> str:
    """Return the path of the version."""
    return f"/v1/projects/{caller.project}/datasets/{view.dataset}/versions/{view.number}"


def _view(session: Session, dataset: Dataset, version: Version) -> VersionView:
    parent = session.get(Version, version.parent_id) if version.parent_id else None
    return VersionView(
        number=version.number,
        dataset=dataset.name,
        digest=version.digest,
        parent=parent.number if parent else None,
        classes=[ClassEntry.model_validate(entry) for entry in version.classes],
        counts=version.counts,
        created_at=version.created_at,
        created_by=version.created_by,
    )
