"""The record of who did what: one row for every change that somebody asked for."""

from sqlalchemy.orm import Session

from api.access import Caller
from api.tables import AuditEvent


def record(session: Session, caller: Caller, action: str, *, target: str, **detail: object) -> None:
    """Add an audit event to the request's transaction; `target` is the object's path."""
    event = AuditEvent(
        project_id=caller.project_id,
        actor=caller.name,
        action=action,
        target=target,
        detail=detail,
    )
    session.add(event)
