"""Programs in sessions of their own: found again by whoever comes later, ended with all of it."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

SAME_START = 2.0
"""Seconds between two readings of one process' start: a clock set anew moves them a little."""
END_LIMIT = 10.0
"""Seconds in which killed processes must be gone."""


def note_session(path: Path, leader: int) -> None:
    """Write down who leads the session, for one who comes after we were killed."""
    import psutil  # only `up` needs it

    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"pid": leader, "time": psutil.Process(leader).create_time()}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def end_noted_session(path: Path) -> bool:
    """Kill what is left of the noted session; True when something was. No note: nothing is."""
    try:
        noted = json.loads(path.read_text())
    except FileNotFoundError:
        return False
    found = False
    deadline = time.monotonic() + END_LIMIT
    while (left := _left(noted["pid"], noted["time"])) and time.monotonic() < deadline:
        found = True
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        time.sleep(0.01)
    path.unlink(missing_ok=True)
    return found


def _left(leader: int, started: float) -> "list[psutil.Process]":
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) != leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid == leader and abs(process.create_time() - started) > SAME_START:
                # The number went to a stranger, so the session had ended before.
                return []
            found.append(process)
    return found
