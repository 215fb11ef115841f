"""The embedded PostgreSQL starts again whatever a killed one left behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

START = """
import sys
from pathlib import Path
from bearloop.embedded_postgres import start_postgres
server = start_postgres(Path(sys.argv[1]))
server.create_database("kept")
print(server.server.psql("select datname from pg_database"))
"""
"""A start in a process of its own, as after a restart of `bearloop up`."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not in pytest's own folder: that is closed to the server's system user.
    with TemporaryDirectory(prefix="bearloop-postgres-", ignore_cleanup_errors=True) as made:
        yield Path(made) / "data"
        for process in processes(Path(made) / "data"):
            process.kill()


def start(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes(folder: Path) -> list[psutil.Process]:
    """The server and its children."""
    noted = folder / "postmaster.pid"
    if not noted.exists():
        return []
    server = psutil.Process(int(noted.read_text().split()[0]))
    return [server, *server.children()]


@pytest.mark.parametrize("victims", ["server", "server and children"])
def test_a_killed_server_starts_again_at_once(folder: Path, victims: str) -> None:
    start(folder)
    found = processes(folder)
    for process in found if victims == "server and children" else found[:1]:
        process.kill()
    assert "kept" in start(folder)
    assert processes(folder)[0].pid != found[0].pid


def test_a_stranger_under_the_number_of_a_dead_server_is_let_be(folder: Path) -> None:
    start(folder)
    killed = processes(folder)
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=10)
    # As after a power cut: the number belongs to somebody else, here to this very test.
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        path = folder / name
        path.write_text(path.read_text().replace(str(killed[0].pid), str(os.getpid()), 1))
    assert "kept" in start(folder)


def test_a_machine_without_a_login_session_is_nothing_to_warn_of(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "XDG" not in name}
    command = [sys.executable, "-c", START, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "XDG_RUNTIME_DIR" not in done.stderr


def test_a_running_server_is_joined(folder: Path) -> None:
    start(folder)
    first = processes(folder)[0].pid
    assert "kept" in start(folder)
    assert processes(folder)[0].pid == first
