"""The record: what was done, and what was answered."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Table


class AuditEvent(Table):
    """Append-only: who did what to which object."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_project_id_id", "project_id", "id"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"))
    actor: Mapped[str]
    action: Mapped[str]
    """Noun and verb, e.g. `review.close`: one of `api.audit.Action`."""
    target: Mapped[str]
    """Path of the object, e.g. `datasets/bears/versions/2`."""
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Table):
    """The answer to a POST, so that the same POST again does nothing twice."""

    __tablename__ = "idempotency_key"
    token_id: Mapped[int] = mapped_column(ForeignKey("token.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str]
    """Sha256 of method, path and body."""
    status: Mapped[int | None] = mapped_column(SmallInteger)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
