"""Reading the audit record, newest first."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Caller
from api.paging import Page, after_number, make_page
from api.projects.schemas import AuditView
from api.tables import AuditEvent


def list_events(
    session: Session, caller: Caller, *, cursor: str | None, limit: int
) -> Page[AuditView]:
    """List what was done in the project, newest first."""
    before = after_number(cursor)
    query = select(AuditEvent).where(AuditEvent.project_id == caller.project_id)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    rows = session.scalars(query.order_by(AuditEvent.id.desc()).limit(limit + 1)).all()
    return make_page(rows, limit=limit, key=lambda row: [row.id], item=_view)


def _view(event: AuditEvent) -> AuditView:
    return AuditView(
        id=event.id,
        at=event.at,
        actor=event.actor,
        action=event.action,
        target=event.target,
        detail=event.detail,
    )
