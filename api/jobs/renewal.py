"""Keeping a claim while slow work goes on outside any transaction."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread

from sqlalchemy.exc import OperationalError

from api import leases
from api.database import Database


@contextmanager
def renewed(database: Database, row: leases.Claimable, *, lease: timedelta) -> Iterator[None]:
    """Renew the claim every third of the lease, until the block ends.

    Without it several workers would take from each other for ever what takes longer than a lease:
    a job that loads, an endpoint whose promotion reads long reports. A call that creates something
    is never made under it: there the lease has to run out with the worker that stalls.
    """
    ended = Event()

    def renew() -> None:
        while not ended.wait(lease.total_seconds() / 3):
            with suppress(OperationalError):  # the database is away: the epoch guards the rest
                _renew(database, row, lease)

    thread = Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _renew(database: Database, row: leases.Claimable, lease: timedelta) -> None:
    with database.transaction() as session:
        leases.renew(session, row, lease=lease)
