"""Making, listing and revoking tokens."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import ForbiddenError, Subject
from api.audit import Action
from api.errors import NotFoundError
from api.paging import Page, after_number, make_page
from api.projects.schemas import MadeToken, NewToken, TokenView
from api.roles import Role
from api.tables import AuditEvent, Project, Token
from api.tokens import new_token, token_hash


class TokenNotFoundError(NotFoundError):
    """No such token of the caller's."""

    code = "token_not_found"
    title = "Token not found"


def create_token(session: Session, subject: Subject, asked: NewToken) -> MadeToken:
    """Make a token: never for more than the caller's own may do."""
    _stay_within(subject, asked)
    project = _project(session, subject, asked.project)
    secret = new_token()
    token = Token(
        subject=asked.subject or subject.name,
        name=asked.name,
        hash=token_hash(secret),
        project_id=project.id if project else subject.project_id,
        max_role=asked.max_role or subject.max_role,
    )
    if asked.days is not None:
        token.expires_at = func.now() + timedelta(days=asked.days)
    session.add(token)
    session.flush()
    session.refresh(token)
    _record(session, subject, action="token.create", token=token)
    return MadeToken(**_view(token, project.name if project else None).model_dump(), token=secret)


def list_tokens(
    session: Session, subject: Subject, *, cursor: str | None, limit: int
) -> Page[TokenView]:
    """List the caller's tokens that are not revoked (everybody's, for who runs the platform)."""
    after = after_number(cursor)
    query = (
        select(Token, Project.name)
        .outerjoin(Project, Project.id == Token.project_id)
        .where(Token.revoked_at.is_(None))
    )
    if not subject.platform:
        query = query.where(Token.subject == subject.name)
    if after is not None:
        query = query.where(Token.id > after)
    rows = session.execute(query.order_by(Token.id).limit(limit + 1)).all()
    return make_page(
        rows, limit=limit, key=lambda row: [row[0].id], item=lambda row: _view(row[0], row[1])
    )


def revoke_token(session: Session, subject: Subject, token_id: int) -> None:
    """Make a token worthless, at once."""
    token = session.get(Token, token_id)
    if token is None or not _may_revoke(subject, token):
        raise TokenNotFoundError(
            f"no token {token_id} of {subject.name}",
            field="token",
            value=token_id,
            way_out="GET /v1/tokens lists yours",
        )
    token.revoked_at = func.now()
    _record(session, subject, action="token.revoke", token=token)


def _may_revoke(subject: Subject, token: Token) -> bool:
    """Whoever has a limited token ends none that may do more."""
    own = subject.platform or token.subject == subject.name
    inside = subject.project_id in (None, token.project_id)
    allowed = Role(token.max_role) if token.max_role else Role.admin
    return own and inside and (subject.max_role is None or subject.max_role.reaches(allowed))


def _stay_within(subject: Subject, asked: NewToken) -> None:
    if asked.subject not in (None, subject.name) and not subject.platform:
        raise ForbiddenError(
            f"{subject.name} may make tokens for itself only",
            field="subject",
            value=asked.subject,
            way_out="leave `subject` out, or ask who runs the platform",
        )
    limit = subject.max_role
    if limit and not limit.reaches(asked.max_role or limit):
        raise ForbiddenError(
            f"this token's own limit is {limit}",
            field="max_role",
            value=asked.max_role,
            way_out=f"ask for {limit} or less",
        )


def _project(session: Session, subject: Subject, name: str | None) -> Project | None:
    if name is None:
        return None
    project = session.scalar(select(Project).where(Project.name == name))
    if project is None or subject.project_id not in (None, project.id):
        raise NotFoundError(
            f"no project {name!r}",
            field="project",
            value=name,
            way_out="GET /v1/projects lists yours",
        )
    return project


def _record(session: Session, subject: Subject, *, action: Action, token: Token) -> None:
    event = AuditEvent(
        project_id=token.project_id,
        actor=subject.name,
        action=action,
        target=f"tokens/{token.id}",
        detail={"subject": token.subject, "name": token.name},
    )
    session.add(event)


def _view(token: Token, project: str | None) -> TokenView:
    return TokenView(
        id=token.id,
        name=token.name,
        subject=token.subject,
        project=project,
        max_role=Role(token.max_role) if token.max_role else None,
        created_at=token.created_at,
        expires_at=token.expires_at,
    )
