"""Projects and their members."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller, Subject
from api.errors import ConflictError, NotFoundError
from api.paging import Page, after_text, make_page
from api.projects.schemas import Member, NewProject, ProjectSettings, ProjectView
from api.roles import Role
from api.tables import Membership, Project


class ProjectExistsError(ConflictError):
    """There is a project of this name."""

    code = "project_exists"
    title = "Project exists"


class ProjectNotFoundError(NotFoundError):
    """There is no project of this name."""

    code = "project_not_found"
    title = "Project not found"


class LastAdminError(ConflictError):
    """The project would be left without an admin."""

    code = "last_admin"
    title = "Last admin"


class MemberNotFoundError(NotFoundError):
    """The subject is no member."""

    code = "member_not_found"
    title = "Member not found"


def create_project(session: Session, subject: Subject, asked: NewProject) -> ProjectView:
    """Make a project with the caller as its admin."""
    if session.scalar(select(Project.id).where(Project.name == asked.name)):
        raise ProjectExistsError(
            f"there is a project {asked.name!r}",
            field="name",
            value=asked.name,
            way_out="choose another name, or ask its admin for a role in it",
        )
    project = Project(name=asked.name, allowed_sources=asked.allowed_sources)
    session.add(project)
    session.flush()
    session.add(Membership(project_id=project.id, subject=subject.name, role=Role.admin))
    caller = Caller(subject.name, subject.token_id, Role.admin, project.id, project.name)
    audit.record(session, caller, "project.create", target=f"projects/{project.name}")
    session.refresh(project)
    return _view(project, Role.admin)


def list_projects(
    session: Session, subject: Subject, *, cursor: str | None, limit: int
) -> Page[ProjectView]:
    """List the projects that the subject is a member of (all, for who runs the platform)."""
    after = after_text(cursor)
    role = Membership.role
    query = select(Project, role).outerjoin(
        Membership,
        (Membership.project_id == Project.id) & (Membership.subject == subject.name),
    )
    if not subject.platform:
        query = query.where(role.is_not(None))
    if subject.project_id is not None:
        query = query.where(Project.id == subject.project_id)
    if after is not None:
        query = query.where(Project.name > after)
    rows = session.execute(query.order_by(Project.name).limit(limit + 1)).all()
    return make_page(
        rows,
        limit=limit,
        key=lambda row: [row[0].name],
        item=lambda row: _view(row[0], Role(row[1] or Role.admin)),
    )


def change_settings(
    session: Session, subject: Subject, *, name: str, asked: ProjectSettings
) -> ProjectView:
    """Change sources, queue and quota; jobs that wait are measured by the new ones."""
    project = session.scalar(select(Project).where(Project.name == name).with_for_update())
    if project is None:
        raise ProjectNotFoundError(
            f"there is no project {name!r}",
            field="project",
            value=name,
            way_out="GET /v1/projects lists them",
        )
    changes = asked.model_dump(exclude_unset=True)
    for field, value in changes.items():
        setattr(project, field, value)
    session.flush()
    caller = Caller(subject.name, subject.token_id, Role.admin, project.id, project.name)
    audit.record(session, caller, "project.change", target=f"projects/{name}", **changes)
    return _view(project, Role.admin)


def list_members(session: Session, caller: Caller) -> Page[Member]:
    """List the project's members by name."""
    query = (
        select(Membership)
        .where(Membership.project_id == caller.project_id)
        .order_by(Membership.subject)
    )
    return Page(
        items=[Member(subject=m.subject, role=Role(m.role)) for m in session.scalars(query)]
    )


def set_role(session: Session, caller: Caller, *, subject: str, role: Role) -> Member:
    """Give a subject a role, or another one."""
    if role is not Role.admin:
        _keep_an_admin(session, caller, subject)
    session.merge(Membership(project_id=caller.project_id, subject=subject, role=role))
    audit.record(session, caller, "member.set_role", target=f"members/{subject}", role=role)
    return Member(subject=subject, role=role)


def remove_member(session: Session, caller: Caller, subject: str) -> None:
    """Take a subject's role away."""
    member = session.get(Membership, (caller.project_id, subject))
    if member is None:
        raise MemberNotFoundError(
            f"{subject!r} is no member of {caller.project}",
            field="subject",
            value=subject,
            way_out="GET …/members lists them",
        )
    _keep_an_admin(session, caller, subject)
    session.delete(member)
    audit.record(session, caller, "member.remove", target=f"members/{subject}")


def _keep_an_admin(session: Session, caller: Caller, leaving: str) -> None:
    # Locked, so that two admins cannot take each other's role away at once.
    query = (
        select(Membership.subject)
        .where(Membership.project_id == caller.project_id, Membership.role == Role.admin)
        .with_for_update()
    )
    if session.scalars(query).all() == [leaving]:
        raise LastAdminError(
            f"{leaving!r} is the only admin of {caller.project}",
            field="subject",
            value=leaving,
            way_out="make somebody else admin first",
        )


def _view(project: Project, role: Role) -> ProjectView:
    return ProjectView(
        name=project.name,
        role=role,
        allowed_sources=project.allowed_sources,
        queue=project.queue,
        gpu_quota=project.gpu_quota,
        created_at=project.created_at,
    )
