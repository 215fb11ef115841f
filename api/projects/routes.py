"""Projects, members, tokens and the audit record."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.access import Admin, AnySubject, ForbiddenError, Platform, UnauthorisedError, Viewer
from api.database import Db
from api.errors import NotFoundError, responses
from api.idempotency import IdempotentRoute
from api.paging import CursorText, Limit, Page
from api.projects import audit_record, projects, tokens
from api.projects.schemas import (
    AuditView,
    MadeToken,
    Member,
    Name,
    NewProject,
    NewRole,
    NewToken,
    ProjectSettings,
    ProjectView,
    SubjectName,
    TokenView,
)

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["projects"],
    responses=responses(UnauthorisedError, ForbiddenError, NotFoundError),
)


@router.post("/projects", status_code=201, responses=responses(projects.ProjectExistsError))
def create_project(caller: Platform, session: Db, asked: NewProject) -> ProjectView:
    """Make a project; the caller, who runs the platform, becomes its admin."""
    return projects.create_project(session, caller, asked)


@router.get("/projects")
def list_projects(
    caller: AnySubject, session: Db, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[ProjectView]:
    """List the projects that the caller is a member of, by name."""
    return projects.list_projects(session, caller, cursor=cursor, limit=limit)


@router.patch("/projects/{project}", responses=responses(projects.ProjectNotFoundError))
def change_project(
    caller: Platform, session: Db, asked: ProjectSettings, *, project: Annotated[Name, Path()]
) -> ProjectView:
    """Change a project's sources, queue and GPU quota, which only who runs the platform may."""
    return projects.change_settings(session, caller, name=project, asked=asked)


@router.get("/projects/{project}/members")
def list_members(caller: Viewer, session: Db) -> Page[Member]:
    """List the project's members and their roles, by name."""
    return projects.list_members(session, caller)


@router.put("/projects/{project}/members/{subject}", responses=responses(projects.LastAdminError))
def set_role(
    caller: Admin, session: Db, *, asked: NewRole, subject: Annotated[SubjectName, Path()]
) -> Member:
    """Give a subject a role in the project, or another one."""
    return projects.set_role(session, caller, subject=subject, role=asked.role)


@router.delete(
    "/projects/{project}/members/{subject}",
    status_code=204,
    responses=responses(projects.LastAdminError, projects.MemberNotFoundError),
)
def remove_member(caller: Admin, session: Db, subject: Annotated[SubjectName, Path()]) -> None:
    """Take a subject's role in the project away."""
    projects.remove_member(session, caller, subject)


@router.get("/projects/{project}/audit")
def list_audit(
    caller: Admin, session: Db, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[AuditView]:
    """List who did what in the project, newest first."""
    return audit_record.list_events(session, caller, cursor=cursor, limit=limit)


@router.post("/tokens", status_code=201)
def create_token(caller: AnySubject, session: Db, asked: NewToken) -> MadeToken:
    """Make a token that may do no more than the caller's own; its secret is shown this once."""
    return tokens.create_token(session, caller, asked)


@router.get("/tokens")
def list_tokens(
    caller: AnySubject, session: Db, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[TokenView]:
    """List the caller's tokens, without their secrets."""
    return tokens.list_tokens(session, caller, cursor=cursor, limit=limit)


@router.delete("/tokens/{token}", status_code=204, responses=responses(tokens.TokenNotFoundError))
def revoke_token(caller: AnySubject, session: Db, token: int) -> None:
    """Make a token worthless, at once."""
    tokens.revoke_token(session, caller, token)
