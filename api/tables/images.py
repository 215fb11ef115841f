"""Images and labels: from the dataset to its frozen versions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Table


class Dataset(Table):
    """Classes, images and labels that belong together."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    seed: Mapped[int] = mapped_column(server_default=text("42"))
    """Of the hash that orders images for the split."""
    valid_share: Mapped[float] = mapped_column(server_default=text("0.2"))
    test_share: Mapped[float] = mapped_column(server_default=text("0"))
    imports: Mapped[int] = mapped_column(server_default=text("0"))
    """Highest number given to an import."""
    versions: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]


class Class(Table):
    """One class: the id is for ever, the name may change, the order only grows."""

    __tablename__ = "class"
    __table_args__ = (
        UniqueConstraint("dataset_id", "name"),
        UniqueConstraint("dataset_id", "position"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    name: Mapped[str]
    position: Mapped[int]
    """From 0."""
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("class.id"))


class Image(Table):
    """Original bytes, once per project; they lie in the store under their sha256."""

    __tablename__ = "image"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int]
    width: Mapped[int]
    """Pixels, upright."""
    height: Mapped[int]
    format: Mapped[str]
    perceptual_hash: Mapped[int]
    """Signed 64-bit difference hash."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Import(Table):
    """Bringing images in: one job, and a ledger with one line for each source."""

    __tablename__ = "import"
    __table_args__ = (UniqueConstraint("dataset_id", "number"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    number: Mapped[int]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id"), unique=True)
    source: Mapped[dict[str, Any]]
    """As asked for."""
    retry_of: Mapped[int | None] = mapped_column(ForeignKey("import.id"))
    stored: Mapped[int | None]
    duplicates: Mapped[int | None]
    refused: Mapped[int | None]
    conflicts: Mapped[int | None]
    """Images of this import that contradict a claim, within it or from before."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]


class ImportSource(Table):
    """A line of the ledger: what became of one file or address."""

    __tablename__ = "import_source"
    import_id: Mapped[int] = mapped_column(ForeignKey("import.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    location: Mapped[str]
    class_name: Mapped[str | None]
    split: Mapped[str | None]
    status: Mapped[str]
    """stored, duplicate or refused."""
    code: Mapped[str | None]
    detail: Mapped[str | None]
    sha256: Mapped[str | None]
    bytes: Mapped[int | None]
    content_type: Mapped[str | None]


class LabelEvent(Table):
    """Append-only: who or what gave which image which label, or removed it, when and why."""

    __tablename__ = "label_event"
    __table_args__ = (
        Index("ix_label_event_dataset_id_sha256", "dataset_id", "sha256", "id"),
        CheckConstraint("kind in ('claim', 'label', 'remove', 'restore')", name="kind"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    sha256: Mapped[str]
    kind: Mapped[str]
    """claim: a source says so; label: somebody decided; remove and restore: in or out."""
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"))
    """Of a claim or a label."""
    actor: Mapped[str]
    origin: Mapped[str]
    """`import 3`, `review 2`, `api`."""
    reason: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatasetImage(Table):
    """The current state of one image in one dataset, derived from its label events."""

    __tablename__ = "dataset_image"
    __table_args__ = (
        Index("ix_dataset_image_dataset_id_class_id", "dataset_id", "class_id", "sha256"),
        CheckConstraint("state in ('labelled', 'conflict')", name="state"),
        CheckConstraint("split in ('train', 'valid', 'test')", name="split"),
    )
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    """labelled, or conflict when claims contradict each other."""
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"))
    """NULL for a conflict."""
    removed: Mapped[bool] = mapped_column(server_default=text("false"))
    split: Mapped[str | None]
    """NULL until a source or the first freeze gave one; then it never changes."""
    group_id: Mapped[str]
    """Sha256 of the group's first member; its own when alone."""


class Version(Table):
    """A frozen dataset, named by its digest; never changed."""

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "digest"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    number: Mapped[int]
    digest: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    classes: Mapped[list[Any]]
    """`ClassEntry` records in order."""
    counts: Mapped[dict[str, Any]]
    """Images per split and class name, and conflicts."""
    manifest_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
