"""Bring a database to this image's schema, as its owner, and give the program's role its rights."""

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from alembic import command
from alembic.config import Config
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from migrations.history import VERSIONS, Fit, History, alembic_config, own_history
from migrations.patience import CONNECT_WITHIN, RefusedError, await_none, first_line, say
from migrations.recorded import read_current, read_recorded
from migrations.rights import check_roles, missing_role
from migrations.settings import Address

LOCK = 0x6265_6172
"""`bear`: the advisory lock that lets one migration run at a time."""
WAIT = timedelta(minutes=5)


@dataclass(frozen=True)
class Upgrading:
    """What belongs to the transaction of an upgrade beside the migrations."""

    history: History
    program_role: str


def await_database(address: Address, *, within: timedelta | None) -> str:
    """Wait for a database that lets us in, and return its address as it was then."""
    await_none(lambda: absence(address), within=within)
    return address()


def upgrade(
    owner_url: str,
    *,
    program_role: str,
    within: timedelta | None = WAIT,
    versions: Path = VERSIONS,
) -> Fit:
    """Migrate and grant; safe to call again, from several places at once, and by an older image.

    Returns how the schema stood before. A newer schema that serves this image is left alone.
    """
    await_none(lambda: absence(lambda: owner_url), within=within)
    with closing(looking_engine(owner_url).connect()) as lock:
        await_none(lambda: _other_migration(lock), within=within)
        history = own_history(versions)
        found = look(lock, history)
        if found is Fit.ahead:
            say(f"the schema is newer than {history.own} and serves it: nothing to do")
            return found
        check_roles(lock, program_role)
        await_none(lambda: missing_role(lock, program_role), within=within)
        # Also when the schema is the same: the role may be another one since.
        config = alembic_config(owner_url, versions=versions)
        config.attributes["upgrading"] = Upgrading(history, program_role)
        await_none(lambda: _held_up(config), within=within)
        say(f"the schema is at {history.own}, and {program_role} has its rights")
    return found


def absence(address: Address) -> str | None:
    """Say why nothing can be asked of the database just now, in words without its password."""
    try:
        with looking_engine(address()).connect():
            return None
    except OSError as error:
        return f"where the database is cannot be read: {error}"
    except ArgumentError:
        return "the database's address is none: write postgresql+psycopg://role:password@host/name"
    except OperationalError as error:
        return f"the database does not let us in: {first_line(error)}"


def looking_engine(url: str) -> Engine:
    """Make an engine to look with: it holds no transaction, and so no lock, between two looks."""
    return create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": CONNECT_WITHIN},
    )


def look(connection: Connection, history: History) -> Fit:
    """Compare the database's schema with this image's; raises RefusedError where none can work."""
    current, recorded = read_current(connection), read_recorded(connection)
    found = history.fit(recorded, current=current)
    if found is Fit.too_new:
        raise RefusedError(
            f"the schema is at {current}, which serves code from {recorded[-1].serves} on; this "
            f"image is at {history.own}: use a newer image, or restore a backup of before"
        )
    if found is Fit.strange:
        raise RefusedError(
            f"the schema is at {current}, which this image (at {history.own}) does not know and "
            "which never was at it: is this the right database, and the right image?"
        )
    return found


def _held_up(config: Config) -> str | None:
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        return (
            "a transaction holds a table that the migration changes (pg_stat_activity shows it): "
            "end it, or let it end"
        )
    return None


def _other_migration(lock: Connection) -> str | None:
    got = lock.scalar(text("select pg_try_advisory_lock(:key)"), {"key": LOCK})
    return None if got else "another migration works on this database"
