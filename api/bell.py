"""The bell by which the API wakes the worker: PostgreSQL's NOTIFY, heard when its transaction ends.

It only wakes. A worker that hears nothing, behind a pooler or on a line that broke, looks by itself
at every poll.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from typing import Final

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.database import Database

log = logging.getLogger("worker")

CHANNEL: Final = "bearloop_worker"
LOOK = timedelta(seconds=30)
"""Between two looks at whether the line still stands."""
PAUSE = timedelta(seconds=5)
"""Between a broken line and the next."""


def ring(session: Session) -> None:
    """Wake the worker once this transaction is committed."""
    session.execute(text(f"notify {CHANNEL}"))


class Bell:
    """Hears rings on a connection of its own, in a thread."""

    def __init__(
        self, database: Database, heard: Callable[[], None], *, pause: timedelta = PAUSE
    ) -> None:
        """Call `heard` at each ring, and when listening begins: one may have rung before."""
        self._database = database
        self._heard = heard
        self._pause = pause
        self._ending = Event()

    def begin(self) -> None:
        """Listen from now on."""
        Thread(target=self._follow, name="bell", daemon=True).start()

    def end(self) -> None:
        """Let the thread end, at the next ring or look."""
        self._ending.set()

    def _follow(self) -> None:
        while not self._ending.is_set():
            try:
                self._listen()
            except (OperationalError, psycopg.OperationalError):
                # The worker's own steps say that the database is away.
                log.info("the line to the database broke; until the next one the worker polls")
                self._ending.wait(self._pause.total_seconds())

    def _listen(self) -> None:
        with self._database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            line = connection.connection.driver_connection
            assert isinstance(line, psycopg.Connection)
            connection.detach()  # no other user of the pool should get one that listens
            line.execute(f"listen {CHANNEL}")
            log.info("the API's bell is heard")
            self._heard()
            while not self._ending.is_set():
                for _ in line.notifies(timeout=LOOK.total_seconds(), stop_after=1):
                    self._heard()
                line.execute("select 1")  # a line that broke without a word breaks here
