"""The database: one engine, and the only place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session


class Database:
    """PostgreSQL as the program's role; that role can neither change nor delete the record."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True)

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

    def answers(self) -> bool:
        """Tell whether the server answers just now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("select 1"))
        except OperationalError:
            return False
        return True

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
