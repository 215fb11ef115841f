"""Sessions are found again by their note, and ended whole; a stranger's never."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bearloop.sessions import end_noted_session, note_session

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    """Leads a session of its own with one child, whose number it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        yield process
        process.kill()


def child_of(leader: subprocess.Popen[str]) -> psutil.Process:
    assert leader.stdout is not None
    return psutil.Process(int(leader.stdout.readline()))


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_all_of_a_noted_session_is_ended(leader: subprocess.Popen[str], tmp_path: Path) -> None:
    child = child_of(leader)
    note_session(tmp_path / "api.session", leader.pid)
    assert end_noted_session(tmp_path / "api.session")
    assert leader.wait(60) != 0
    assert not lives(child)
    assert not end_noted_session(tmp_path / "api.session")


def test_what_a_dead_leader_left_is_ended(leader: subprocess.Popen[str], tmp_path: Path) -> None:
    child = child_of(leader)
    note_session(tmp_path / "mlflow.session", leader.pid)
    leader.kill()
    leader.wait()
    assert lives(child)
    assert end_noted_session(tmp_path / "mlflow.session")
    assert not lives(child)


def test_a_stranger_under_the_same_number_lives_on(
    leader: subprocess.Popen[str], tmp_path: Path
) -> None:
    child = child_of(leader)
    note = tmp_path / "api.session"
    note_session(note, leader.pid)
    noted = json.loads(note.read_text())
    note.write_text(json.dumps({**noted, "time": noted["time"] - 3600}))
    assert not end_noted_session(note)
    assert leader.poll() is None
    assert lives(child)
    child.kill()
