"""What the API commits is heard by whoever listens, and nothing else is."""

from collections.abc import Iterator
from datetime import timedelta
from queue import Empty, Queue

import pytest
from sqlalchemy import text

from api.bell import Bell, ring
from api.database import Database

SOON = 30.0
"""Seconds that a ring may take on a busy machine."""
Rings = Queue[None]


@pytest.fixture
def rings(database: Database) -> Iterator[Rings]:
    """Each ring that was heard, from when listening had begun."""
    heard: Rings = Queue()
    bell = Bell(database, lambda: heard.put(None), pause=timedelta(milliseconds=50))
    bell.begin()
    heard.get(timeout=SOON)
    yield heard
    bell.end()
    committed(database)  # so that it looks, and ends


def committed(database: Database) -> None:
    with database.transaction() as session:
        ring(session)


def test_a_ring_is_heard_once_its_transaction_is_committed(
    database: Database, rings: Rings
) -> None:
    with database.transaction() as session:
        ring(session)
        session.flush()
        with pytest.raises(Empty):
            rings.get(timeout=0.2)
    rings.get(timeout=SOON)


def test_what_is_rolled_back_is_never_heard(database: Database, rings: Rings) -> None:
    with database.transaction() as session:
        ring(session)
        session.rollback()
    committed(database)
    rings.get(timeout=SOON)
    assert rings.empty()


def test_a_line_that_breaks_is_made_anew(database: Database, rings: Rings) -> None:
    listens = "datname = current_database() and query like 'listen%'"
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where {listens}"
    with database.transaction() as session:
        assert session.execute(text(end)).all(), "somebody listens"
    rings.get(timeout=SOON)  # what may have rung meanwhile is looked for
    committed(database)
    rings.get(timeout=SOON)
