"""Review: queues, screens and decisions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Table


class Review(Table):
    """A queue over one report."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        CheckConstraint("state in ('open', 'closed')", name="state"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    number: Mapped[int]
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    order: Mapped[str]
    """loss or label_issue."""
    screen_size: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    state: Mapped[str] = mapped_column(server_default="open")
    images: Mapped[int]
    """Queued images."""
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    """The cleaned version that closing made."""
    retrain_run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]


class Screen(Table):
    """Five images claimed by one reviewer, until the lease runs out."""

    __tablename__ = "screen"
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id"), index=True)
    reviewer: Mapped[str]
    lease_until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]


class QueuedImage(Table):
    """One image of a review's queue, as the report showed it."""

    __tablename__ = "queued_image"
    __table_args__ = (
        Index("ix_queued_image_open", "review_id", "rank", postgresql_where=text("not decided")),
        UniqueConstraint("review_id", "sha256"),
    )
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    split: Mapped[str]
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"))
    """The label when the version was frozen; NULL for a conflict."""
    predicted: Mapped[int] = mapped_column(ForeignKey("class.id"))
    confidence: Mapped[float]
    loss: Mapped[float | None]
    label_issue: Mapped[float]
    screen_id: Mapped[UUID | None] = mapped_column(ForeignKey("screen.id"), index=True)
    """The screen that claimed it last."""
    decided: Mapped[bool] = mapped_column(server_default=text("false"))


class Decision(Table):
    """keep, relabel, remove or unsure; undone, it stays on record."""

    __tablename__ = "decision"
    __table_args__ = (
        CheckConstraint("verb in ('keep', 'relabel', 'remove', 'unsure')", name="verb"),
        Index(
            "uq_decision_standing",
            "review_id",
            "sha256",
            unique=True,
            postgresql_where=text("undone_at is null"),
        ),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id"))
    screen_id: Mapped[UUID] = mapped_column(ForeignKey("screen.id"))
    sha256: Mapped[str]
    verb: Mapped[str]
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"))
    """Of a relabel."""
    seen_class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"))
    """The label that the reviewer saw; NULL for a conflict."""
    reviewer: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    undone_at: Mapped[datetime | None]
