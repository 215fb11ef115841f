"""The database: one engine, and the only place that commits."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

log = logging.getLogger("database")

PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 20_000, "keepalives_idle": 30}
"""Seconds, milliseconds, seconds: a server that is gone without a word is missed in time."""
CONNECTIONS = 10
"""Of each process: six pods of the API, the worker and MLflow fit into PostgreSQL's usual 100."""
REFUSALS = (
    ("password authentication failed", "refuses the role's password"),
    ("no password supplied", "asks for a password, and none is set"),
    ("pg_hba.conf", "lets this role not in from here"),
    ("does not exist", "has no database or no role of this name"),
    ("starting up", "is starting"),
    ("too many", "has no connection free"),
    ("QueuePool limit", "has no connection free"),
)
"""What PostgreSQL says when it lets nobody in; there is no code for it."""


class Database:
    """PostgreSQL as the program's role; that role can neither change nor delete the record."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        """Open no more than so many connections; who comes when all are taken waits for one."""
        self.engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            # What the address itself says goes first.
            connect_args={
                name: value for name, value in PATIENCE.items() if name not in make_url(url).query
            },
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open one transaction: committed when the block ends well, rolled back when it raises."""
        session = Session(self.engine, expire_on_commit=False)
        try:
            yield session
            session.commit()
        finally:
            # Closing rolls back what was not committed.
            session.close()

    def problem(self) -> str | None:
        """Say why the database cannot be used just now, in words without secrets; None: it can."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("select 1 from project limit 1"))
        except ProgrammingError as error:
            log.warning("the database: %s", error.orig)
            return "has no schema yet, or the role has no rights: its migration has not ended"
        except (OperationalError, PoolTimeoutError) as error:
            log.warning("the database: %s", error)
            return next((says for said, says in REFUSALS if said in str(error)), "does not answer")
        return None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def request_session(request: Request) -> Iterator[Session]:
    """Give the request its one transaction."""
    database: Database = request.app.state.database
    with database.transaction() as session:
        request.state.session = session
        yield session


# "function" makes FastAPI end the dependency, and so commit, before the response leaves: a commit
# that fails is a 500, never a success that was not.
Db = Annotated[Session, Depends(request_session, scope="function")]
