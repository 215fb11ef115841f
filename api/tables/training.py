"""Training: recipes, jobs, runs and their reports."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.jobs.states import JobState as JobState
from api.tables.declarative import Leased, Table


class Recipe(Table):
    """A project's own named training steps; the named ones of bearloop are not stored."""

    __tablename__ = "recipe"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]


class Job(Table, Leased):
    """One program run to completion; PostgreSQL is the truth, the cluster is compared with it."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_due", "due_at", postgresql_where=text("finished_at is null")),
        CheckConstraint(
            "state in ('queued', 'launched', 'running', 'done', 'failed', 'cancelled')",
            name="state",
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[str]
    """import or run."""
    spec: Mapped[dict[str, Any]]
    """The contract's ImportSpec or RunSpec, complete."""
    gpus: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Of all its pods together: what counts against the project's quota."""
    resources: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What else was asked for of each pod: `api.jobs.resources.Resources`."""
    state: Mapped[JobState] = mapped_column(String, server_default="queued")
    reason: Mapped[str | None]
    """Why it waits or why it died, in plain words."""
    problem: Mapped[dict[str, Any] | None]
    """The contract's Problem when the input was at fault."""
    launch: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """How often it was launched; part of its name on the cluster."""
    crashes: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Launches that count against the limit; interruptions do not."""
    cancel_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    progress: Mapped[dict[str, Any] | None]
    """The contract's Progress as last observed."""
    attempt: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Run(Table):
    """Version + recipe + seed, trained by one job."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("project_id", "number"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    number: Mapped[int]
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    recipe: Mapped[str]
    """The recipe's name; the recipe itself, complete, is in the job's spec."""
    recipe_digest: Mapped[str]
    seed: Mapped[int]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id"), unique=True)
    mlflow_run_id: Mapped[str | None]
    mlflow_experiment_id: Mapped[str | None]
    mlflow_version: Mapped[str | None]
    """Version of the registered model."""
    device: Mapped[str | None]
    seconds: Mapped[dict[str, Any] | None]
    """Time of each stage, by name."""
    cost: Mapped[dict[str, Any] | None]
    """The contract's Cost; None for older runs."""
    bundle_digest: Mapped[str | None] = mapped_column(index=True)
    curves_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]


class Report(Table):
    """What a run says of every image: the figures here, the rows in the store."""

    __tablename__ = "report"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    summary: Mapped[dict[str, Any]]
    """The contract's Summary."""
    loss_key: Mapped[str]
    label_issue_key: Mapped[str]
