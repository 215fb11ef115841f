"""Who calls: the caller is a parameter type of the route, never a line in its body."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import idempotency
from api.database import Db
from api.errors import ApiError, NotFoundError
from api.origin import check_origin
from api.roles import Role, lower_of
from api.tables import Membership, Project, Token
from api.tokens import looks_right, token_hash

COOKIE = "bearloop_token"
"""The review pages' sign-in keeps the token in this cookie."""


class UnauthorisedError(ApiError):
    """No token, or none that is valid."""

    status = 401
    code = "unauthorised"
    title = "Unauthorised"


class ForbiddenError(ApiError):
    """The caller's role does not reach."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


@dataclass(frozen=True)
class Subject:
    """The person or program behind a valid token, outside any project."""

    name: str
    token_id: int
    platform: bool
    project_id: int | None
    """The token's only project; None for all."""
    max_role: Role | None


@dataclass(frozen=True)
class Caller:
    """A subject inside a project, with the role that counts."""

    name: str
    token_id: int
    role: Role
    project_id: int
    project: str


def subject_of(request: Request, session: Db) -> Subject:
    """Find the subject of the request's bearer token or sign-in cookie."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    token = given or request.cookies.get(COOKIE, "")
    if token and not given:
        check_origin(request)
    found = find_token(session, token) if looks_right(token) else None
    if found is None:
        raise UnauthorisedError(
            "the token is missing, mistyped, expired or revoked" if token else "no token was given",
            field="Authorization",
            way_out="send `Authorization: Bearer bl_…`; an admin makes tokens at POST /v1/tokens",
        )
    idempotency.begin(request, session, token_id=found.id)
    return Subject(
        name=found.subject,
        token_id=found.id,
        platform=found.platform,
        project_id=found.project_id,
        max_role=Role(found.max_role) if found.max_role else None,
    )


def find_token(session: Session, token: str) -> Token | None:
    """Find a token that is neither revoked nor expired."""
    query = select(Token).where(
        Token.hash == token_hash(token),
        Token.revoked_at.is_(None),
        (Token.expires_at.is_(None)) | (Token.expires_at > func.now()),
    )
    return session.scalar(query)


AnySubject = Annotated[Subject, Depends(subject_of, scope="function")]


def platform_subject(subject: AnySubject) -> Subject:
    """Let only the platform's own subjects pass."""
    if not subject.platform:
        raise ForbiddenError(
            f"{subject.name} does not run this platform",
            field="Authorization",
            way_out="ask who installed bearloop: a platform token makes projects and tokens",
        )
    return subject


Platform = Annotated[Subject, Depends(platform_subject, scope="function")]

ProjectName = Annotated[str, Path(alias="project", description="The project's name.")]


def caller_in(project: ProjectName, subject: AnySubject, session: Db) -> Caller:
    """Find the caller's role in the project; who is no member learns nothing of it."""
    row = session.scalar(select(Project).where(Project.name == project))
    role = _role(session, subject, row) if row else None
    if row is None or role is None:
        raise NotFoundError(
            f"no project {project!r} that {subject.name} is a member of",
            field="project",
            value=project,
            way_out="GET /v1/projects lists yours",
        )
    return Caller(
        name=subject.name,
        token_id=subject.token_id,
        role=role,
        project_id=row.id,
        project=row.name,
    )


def at_least(least: Role) -> Callable[[Caller], Caller]:
    """Make the dependency that lets a role, and those above it, pass."""

    def check(caller: Annotated[Caller, Depends(caller_in, scope="function")]) -> Caller:
        if not caller.role.reaches(least):
            raise ForbiddenError(
                f"{caller.name} is {caller.role} in {caller.project}; this takes {least}",
                field="role",
                value=str(caller.role),
                way_out="an admin of the project changes roles at PUT …/members/{subject}",
            )
        return caller

    check.least = least  # type: ignore[attr-defined]  # read by the permission test and the docs
    return check


Viewer = Annotated[Caller, Depends(at_least(Role.viewer), scope="function")]
Reviewer = Annotated[Caller, Depends(at_least(Role.reviewer), scope="function")]
Trainer = Annotated[Caller, Depends(at_least(Role.trainer), scope="function")]
Promoter = Annotated[Caller, Depends(at_least(Role.promoter), scope="function")]
Admin = Annotated[Caller, Depends(at_least(Role.admin), scope="function")]


def _role(session: Session, subject: Subject, project: Project) -> Role | None:
    if subject.project_id not in (None, project.id):
        return None
    if subject.platform:
        return lower_of(Role.admin, subject.max_role)
    member = session.get(Membership, (project.id, subject.name))
    return lower_of(Role(member.role), subject.max_role) if member else None
