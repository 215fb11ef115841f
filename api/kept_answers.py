"""Answers that are kept for a POST which is sent again: forgotten when nobody sends it any more."""

from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func

from api.database import Database
from api.tables import IdempotencyKey

KEPT: Final = timedelta(days=1)
"""Long enough for any retry; an answer may hold a new token's secret."""


def forget_answers(database: Database) -> None:
    """Forget those that are older than a day, with their keys."""
    with database.transaction() as session:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEPT))
