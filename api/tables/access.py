"""Who may do what: projects, tokens, memberships."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    Identity,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Table


class Project(Table):
    """A team's own world: nothing is shared between two projects."""

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    allowed_sources: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """Address prefixes (`s3://…`, `file:…`) that the operator lets members name."""
    runs: Mapped[int] = mapped_column(server_default=text("0"))
    """Highest number given to a run."""
    reviews: Mapped[int] = mapped_column(server_default=text("0"))
    queue: Mapped[str | None]
    """Kueue's LocalQueue that the project's jobs wait in; NULL: bearloop's own quota counts."""
    gpu_quota: Mapped[int | None]
    """Most GPUs that the project's runs use at once; NULL: as many as there are."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Token(Table):
    """A secret that speaks for a subject; only its SHA-256 is kept."""

    __tablename__ = "token"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    subject: Mapped[str] = mapped_column(index=True)
    """Name of the person or program."""
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    platform: Mapped[bool] = mapped_column(server_default=text("false"))
    """May create projects and other subjects' tokens, and is admin of every project."""
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"))
    """Works in this project only; NULL in all where the subject is a member."""
    max_role: Mapped[str | None]
    """Never more than this role, whatever the membership says."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Membership(Table):
    """A subject's role in a project."""

    __tablename__ = "membership"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
