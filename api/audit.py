"""The record of who did what: one row for every change that somebody asked for."""

from typing import Literal

from sqlalchemy.orm import Session

from api.access import Caller
from api.tables import AuditEvent

Action = Literal[
    "project.create",
    "project.change",
    "member.set_role",
    "member.remove",
    "token.create",
    "token.revoke",
    "dataset.create",
    "class.rename",
    "class.merge",
    "image.label",
    "image.remove",
    "image.restore",
    "upload.store",
    "import.start",
    "import.cancel",
    "version.freeze",
    "recipe.add",
    "run.start",
    "run.cancel",
    "review.create",
    "review.claim",
    "review.release",
    "review.decide",
    "review.undo",
    "review.close",
    "endpoint.create",
    "endpoint.change_gates",
    "endpoint.resize",
    "endpoint.promote",
    "endpoint.roll_back",
    "endpoint.delete",
    "endpoint_token.create",
    "endpoint_token.revoke",
]
"""Everything that the record may hold, as noun and verb, in life order."""


def record(
    session: Session, caller: Caller, action: Action, *, target: str, **detail: object
) -> None:
    """Add an audit event to the request's transaction; `target` is the object's path."""
    event = AuditEvent(
        project_id=caller.project_id,
        actor=caller.name,
        action=action,
        target=target,
        detail=detail,
    )
    session.add(event)
