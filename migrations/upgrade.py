"""Bring a database to this image's schema, as its owner, and give the program's role its rights."""

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from migrations.history import VERSIONS, Fit, History, alembic_config, own_history
from migrations.patience import CONNECT_WITHIN, RefusedError, await_none, first_line, say
from migrations.recorded import read_current, read_recorded
from migrations.rights import check_roles

LOCK = 0x6265_6172
"""`bear`: the advisory lock that lets one migration run at a time."""
WAIT = timedelta(minutes=5)


@dataclass(frozen=True)
class Upgrading:
    """What belongs to the transaction of an upgrade beside the migrations."""

    history: History
    program_role: str


def upgrade(
    owner_url: str, *, program_role: str, within: timedelta = WAIT, versions: Path = VERSIONS
) -> Fit:
    """Migrate and grant; safe to call again, from several places at once, and by an older image.

    Returns how the schema stood before. A newer schema that serves this image is left alone.
    """
    engine = looking_engine(owner_url)
    await_none(lambda: _absence(engine), within=within)
    with closing(engine.connect()) as lock:
        await_none(lambda: _other_migration(lock), within=within)
        history = own_history(versions)
        found = look(lock, history)
        if found is Fit.ahead:
            say(f"the schema is newer than {history.own} and serves it: nothing to do")
            return found
        check_roles(lock, program_role)
        # Also when the schema is the same: the role may be another one since.
        config = alembic_config(owner_url, versions=versions)
        config.attributes["upgrading"] = Upgrading(history, program_role)
        command.upgrade(config, "head")
        say(f"the schema is at {history.own}, and {program_role} has its rights")
    return found


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


def _absence(engine: Engine) -> str | None:
    try:
        with engine.connect():
            return None
    except OperationalError as error:
        return f"the database does not let us in: {first_line(error)}"


def _other_migration(lock: Connection) -> str | None:
    got = lock.scalar(text("select pg_try_advisory_lock(:key)"), {"key": LOCK})
    return None if got else "another migration works on this database"
