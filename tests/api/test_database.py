"""How many connections a process opens: as many as it was told, however many ask."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import create_app
from api.database import Database
from api.settings import Settings

PATIENCE = 20.0
"""Seconds until three that may be there together have come."""


def met(database: Database, together: int, *, wait: float) -> bool:
    """Let so many transactions wait for each other; tell whether they were all open at once."""
    all_there = Barrier(together)

    def come(_: int) -> bool:
        with database.transaction() as session:
            session.execute(text("select 1"))
            try:
                all_there.wait(wait)
            except BrokenBarrierError:
                return False
            return True

    with ThreadPoolExecutor(together) as threads:
        return all(threads.map(come, range(together)))


@pytest.mark.parametrize(("connections", "wait"), [(3, PATIENCE), (2, 1.0)])
def test_no_more_connections_are_opened_than_were_allowed(
    settings: Settings, connections: int, wait: float
) -> None:
    database = Database(settings.database_url, connections=connections)
    assert met(database, 3, wait=wait) is (connections == 3)
    # Who had to wait had its turn, and what was opened is kept for the next.
    with database.transaction() as session:
        assert session.scalar(text("select 1")) == 1
    database.close()


def test_the_api_opens_as_many_as_the_operator_allows(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"database_connections": 2}))
    with TestClient(app):
        assert not met(app.state.database, 3, wait=1.0)
        assert met(app.state.database, 2, wait=PATIENCE)
