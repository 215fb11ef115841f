"""Claims: one worker at a time works on a row, and a stalled one's result is dropped."""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session

from api.tables import Endpoint, Job, Promotion

Claimable = TypeVar("Claimable", Job, Endpoint, Promotion)
AHEAD = timedelta(hours=1)
"""More than anything due has waited."""


def claim(
    session: Session,
    table: type[Claimable],
    *,
    owner: str,
    lease: timedelta,
    where: ColumnElement[bool],
) -> Claimable | None:
    """Take the longest due row that nobody holds; its epoch grows and so voids older claims."""
    free = (table.lease_until.is_(None)) | (table.lease_until < func.now())
    due = (
        select(table)
        .where(where, table.due_at <= func.now(), free)
        .order_by(table.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.scalar(due)
    if row is None:
        return None
    row.lease_owner = owner
    row.lease_until = func.now() + lease  # by the database's clock
    row.epoch += 1
    session.flush()
    session.refresh(row)
    return row


def at_once() -> ColumnElement[datetime]:
    """Return the time at which a row of which something is known is due: before all the others."""
    return func.now() - AHEAD


def apply(
    session: Session,
    row: Claimable,
    *,
    changes: dict[str, Any],
    due_in: timedelta = timedelta(0),
) -> bool:
    """Write the changes and give the row back; a void claim writes nothing and gives False.

    Whoever made it due while it was claimed is heard: what the step saw may be older than that.
    """
    table = type(row)
    woken = table.due_at != row.due_at
    written = session.execute(
        update(table)
        .where(table.id == row.id, table.epoch == row.epoch)
        .values(
            **changes,
            lease_owner=None,
            lease_until=None,
            due_at=case((woken, table.due_at), else_=func.now() + due_in),
        )
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return written.scalar() is not None


def holds(session: Session, row: Claimable, *, at_least: timedelta) -> bool:
    """Tell whether the claim still stands and outlasts a call of that length."""
    table = type(row)
    still = select(table.id).where(
        table.id == row.id,
        table.epoch == row.epoch,
        table.lease_until > func.now() + at_least,
    )
    return session.scalar(still) is not None


def renew(session: Session, row: Claimable, *, lease: timedelta) -> bool:
    """Make the claim last a whole lease from now; False when it is void."""
    return keep(session, row, changes={}, lease=lease)


def keep(session: Session, row: Claimable, *, changes: dict[str, Any], lease: timedelta) -> bool:
    """Write the changes, and go on holding the row for a whole lease; False when void."""
    table = type(row)
    written = session.execute(
        update(table)
        .where(table.id == row.id, table.epoch == row.epoch)
        .values(**changes, lease_until=func.now() + lease)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return written.scalar() is not None
