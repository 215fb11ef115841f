"""Frozen versions: named by their digest, written once, never changed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from api.classes import classes_of
from api.dataset import lock_labels
from api.datasets.diff import Diff, diff
from api.datasets.find import find_version
from api.datasets.freezable import check_classes, check_some, check_splits
from api.datasets.splits import Member, Shares, Split, assign_folds, assign_splits
from api.merged_classes import merged_classes
from api.tables import Dataset, DatasetImage, Version
from bearloop.contract.manifest import ManifestRow, manifest_digest
from bearloop.contract.record import ClassEntry
from bearloop.manifest_file import read_manifest, write_manifest
from bearloop.store import Store

__all__ = [
    "REMOVED",
    "Diff",
    "Frozen",
    "diff",
    "find_version",
    "freeze",
    "freeze_or_find",
    "freeze_with_decisions",
    "read_rows",
]

SAVE_SPLITS = text(
    """
    update dataset_image set split = given.split
    from unnest(:images, :splits) as given (sha256, split)
    where dataset_image.dataset_id = :dataset_id and dataset_image.sha256 = given.sha256
      and dataset_image.split is null
    """
).bindparams(bindparam("images", type_=ARRAY(TEXT)), bindparam("splits", type_=ARRAY(TEXT)))


class _Removed(Enum):
    removed = "removed"


REMOVED: Final = _Removed.removed
"""Instead of a class id: the image leaves the version."""
Change = int | _Removed


class Frozen(NamedTuple):
    """A version, and whether freezing made it or found it."""

    version: Version
    new: bool


def freeze(
    session: Session, store: Store, dataset: Dataset, *, actor: str, parent: Version | None = None
) -> Version:
    """Freeze everything current; raises an error of `freezable` that names class and way out.

    Images without a split get theirs now, for good. The same content gives the same version.
    """
    return freeze_or_find(session, store, dataset, actor=actor, parent=parent).version


def freeze_or_find(
    session: Session, store: Store, dataset: Dataset, *, actor: str, parent: Version | None = None
) -> Frozen:
    """Freeze everything current, and tell whether that content was frozen before."""
    lock_labels(session, dataset.id)
    members = _members(session, dataset.id)
    shares = Shares(valid=dataset.valid_share, test=dataset.test_share)
    given = assign_splits(members, seed=dataset.seed, shares=shares)
    placed = [m._replace(split=m.split or given[m.sha256]) for m in members]
    rows = _rows(placed, seed=dataset.seed)
    classes = _renumbered(classes_of(session, dataset.id))
    check_some(rows)
    check_classes(classes, rows)
    check_splits(classes, rows)
    _save_splits(session, dataset.id, given)
    content = _Content(dataset, classes, rows)
    return _record(session, store, content, actor=actor, parent=parent or _latest(session, dataset))


def freeze_with_decisions(
    session: Session, store: Store, *, base: Version, changes: Mapping[str, Change], actor: str
) -> Version:
    """Freeze the rows of `base` with these labels changed or removed; images imported later wait.

    Splits and groups stay as they were. A class may lose its last image here: the decisions are
    people's, and a run over the version refuses by name what cannot be trained.
    """
    dataset = session.get_one(Dataset, base.dataset_id)
    lock_labels(session, dataset.id)
    merged = merged_classes(session, dataset.id)
    rows = read_rows(store, base)
    unknown = changes.keys() - {row.sha256 for row in rows}
    if unknown:
        raise ValueError(f"version {base.number} has no image {min(unknown)}")
    members = [
        Member(row.sha256, merged.get(label or 0, label), row.group, row.split)
        for row in rows
        if (label := changes.get(row.sha256, row.label)) is not REMOVED
    ]
    changed = _rows(members, seed=dataset.seed)
    check_some(changed)
    known = {merged.get(entry["id"], entry["id"]) for entry in base.classes}
    used = known | {row.label for row in changed}
    classes = _renumbered(e for e in classes_of(session, dataset.id) if e.id in used)
    content = _Content(dataset, classes, changed)
    return _record(session, store, content, actor=actor, parent=base).version


def read_rows(store: Store, version: Version) -> list[ManifestRow]:
    """Read a version's rows from its manifest, in sha256 order."""
    return read_manifest(store.get(version.manifest_key))


class _Content(NamedTuple):
    dataset: Dataset
    classes: list[ClassEntry]
    rows: list[ManifestRow]


def _members(session: Session, dataset_id: int) -> list[Member]:
    current = select(
        DatasetImage.sha256, DatasetImage.class_id, DatasetImage.group_id, DatasetImage.split
    ).where(DatasetImage.dataset_id == dataset_id, DatasetImage.removed.is_(False))
    return [
        Member(sha256, class_id, group, cast("Split | None", split))
        for sha256, class_id, group, split in session.execute(current)
    ]


def _rows(members: Sequence[Member], *, seed: int) -> list[ManifestRow]:
    folds = assign_folds(members, seed=seed)
    return sorted(
        ManifestRow(
            sha256=m.sha256,
            label=m.label,
            state="conflict" if m.label is None else "labelled",
            split=m.split or "train",
            group=m.group,
            fold=folds[m.sha256],
        )
        for m in members
    )


def _renumbered(classes: Iterable[ClassEntry]) -> list[ClassEntry]:
    # A model's outputs count from 0 without gaps, also where a class was merged away.
    return [
        ClassEntry(id=entry.id, name=entry.name, position=position)
        for position, entry in enumerate(classes)
    ]


def _save_splits(session: Session, dataset_id: int, given: Mapping[str, Split]) -> None:
    values = {"images": list(given), "splits": list(given.values()), "dataset_id": dataset_id}
    if given:
        session.execute(SAVE_SPLITS, values)


def _latest(session: Session, dataset: Dataset) -> Version | None:
    newest = select(Version).where(Version.dataset_id == dataset.id)
    return session.scalar(newest.order_by(Version.number.desc()).limit(1))


def _record(
    session: Session, store: Store, content: _Content, *, actor: str, parent: Version | None
) -> Frozen:
    dataset = content.dataset
    digest = manifest_digest(content.classes, content.rows)
    known = session.scalar(
        select(Version).where(Version.dataset_id == dataset.id, Version.digest == digest)
    )
    if known is not None:
        return Frozen(known, new=False)
    key = f"versions/{digest}/manifest.parquet"
    # Before the row: what the database names is always there. A crash between leaves a file
    # that the next freeze of this content finds and keeps.
    store.put_new(key, write_manifest(content.rows))
    version = Version(
        dataset_id=dataset.id,
        number=_next_number(session, dataset),
        digest=digest,
        parent_id=parent.id if parent else None,
        classes=[entry.model_dump() for entry in content.classes],
        counts=_counts(content),
        manifest_key=key,
        created_by=actor,
    )
    session.add(version)
    session.flush()
    session.refresh(version)
    return Frozen(version, new=True)


def _next_number(session: Session, dataset: Dataset) -> int:
    counted = (
        update(Dataset)
        .where(Dataset.id == dataset.id)
        .values(versions=Dataset.versions + 1)
        .returning(Dataset.versions)
    )
    return session.execute(counted).scalar_one()


def _counts(content: _Content) -> dict[str, Any]:
    names = {entry.id: entry.name for entry in content.classes}
    counted = Counter((r.split, names[r.label]) for r in content.rows if r.label is not None)
    counts: dict[str, Any] = {"train": {}, "valid": {}, "test": {}}
    for split, name in sorted(counted):
        counts[split][name] = counted[split, name]
    counts["conflicts"] = sum(row.label is None for row in content.rows)
    counts["images"] = len(content.rows)
    return counts
