"""Serving: endpoints, their tokens, and promotions."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Leased, Table


class Endpoint(Table, Leased):
    """A name that answers; what it should serve, compared with what it serves."""

    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    public: Mapped[bool] = mapped_column(server_default=text("false"))
    gates: Mapped[list[Any]]
    """What a model must pass, as data."""
    replicas: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    """Servers at least."""
    most_replicas: Mapped[int | None] = mapped_column(SmallInteger)
    """Servers at most; NULL: as many as at least."""
    cpu: Mapped[float | None]
    """Cores of each server; NULL: what the operator set."""
    memory: Mapped[str | None]
    """Of each server, e.g. `1Gi`; NULL: what the operator set."""
    bundle_digest: Mapped[str | None]
    """What should answer; NULL before the first promotion."""
    serving_digest: Mapped[str | None]
    """What really answered last."""
    ready: Mapped[bool] = mapped_column(server_default=text("false"))
    url: Mapped[str | None]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    deleted_at: Mapped[datetime | None]


class EndpointToken(Table):
    """A secret that may ask a private endpoint; only its SHA-256 is kept."""

    __tablename__ = "endpoint_token"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoint.id"), index=True)
    name: Mapped[str]
    hash: Mapped[str]
    """Hex."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    revoked_at: Mapped[datetime | None]


class Promotion(Table, Leased):
    """Bringing one run's bundle to an endpoint, through its gates."""

    __tablename__ = "promotion"
    __table_args__ = (
        CheckConstraint(
            "state in ('checking', 'rolling_out', 'live', 'refused', 'failed', 'replaced')",
            name="state",
        ),
        UniqueConstraint("endpoint_id", "number"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoint.id"))
    number: Mapped[int]
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    bundle_digest: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="checking")
    results: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """One per gate: name, passed, what was seen and what was asked."""
    reason: Mapped[str | None]
    rollback_of: Mapped[int | None] = mapped_column(ForeignKey("promotion.id"))
    """The promotion that this one takes back."""
    moved_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it came into its state: the deadline runs from here."""
    probe_token: Mapped[str | None]
    """The worker's own secret for asking the candidate, then the endpoint; erased at the end."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    finished_at: Mapped[datetime | None]
