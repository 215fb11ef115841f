"""What the routes of projects, members, tokens and the audit record take and give."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.roles import Role

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", examples=["zoo"])]
"""A DNS label of at most 40 characters, so that it fits into names on the cluster."""
QueueName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
SubjectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,79}$")]


class NewProject(BaseModel):
    """A project to make; its maker becomes its admin."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    allowed_sources: list[str] = []
    """Address prefixes (`s3://bucket/prefix/`, `file:///folder/`) that members may name."""


class ProjectView(BaseModel):
    """A project as a member sees it."""

    name: str
    role: Role
    """The caller's."""
    allowed_sources: list[str]
    queue: str | None
    """Kueue's LocalQueue that its jobs wait in; null: bearloop's own quota counts."""
    gpu_quota: int | None
    """Most GPUs that its runs use at once; null: as many as there are."""
    created_at: datetime


class ProjectSettings(BaseModel):
    """What to change of a project; what is absent stays."""

    model_config = ConfigDict(extra="forbid")
    allowed_sources: list[str] = Field(default_factory=list)
    """Address prefixes that members may name, all of them: the list takes the place of the last."""
    queue: QueueName | None = None
    """Null takes the jobs out of Kueue."""
    gpu_quota: int | None = Field(default=None, ge=0, le=100_000)
    """Null lifts the quota; 0 refuses every run that asks for a GPU."""


class NewRole(BaseModel):
    """The role to give."""

    model_config = ConfigDict(extra="forbid")
    role: Role


class Member(BaseModel):
    """A subject and its role."""

    subject: str
    role: Role


class NewToken(BaseModel):
    """A token to make: for oneself, or, by who runs the platform, for anybody."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=80)
    """What it is for."""
    subject: SubjectName | None = None
    """Whom it speaks for; absent: the caller."""
    project: str | None = None
    """Works in this project only."""
    max_role: Role | None = None
    """Never more than this role."""
    days: int | None = Field(default=90, ge=1, le=3650)
    """Until it expires; null: never."""


class TokenView(BaseModel):
    """A token without its secret."""

    id: int
    name: str
    subject: str
    project: str | None
    max_role: Role | None
    created_at: datetime
    expires_at: datetime | None


class MadeToken(TokenView):
    """A token just made: the only time that its secret is shown."""

    token: str


class AuditView(BaseModel):
    """Who did what to which object."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
