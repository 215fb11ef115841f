"""One process under its shim, seen from outside: the folder that both sides write to."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from api.cluster.shim import ENDED, LOG, REQUEST, STARTED, TOMBSTONE, write_new

LOG_TAIL = 64 * 1024
"""Bytes of a log that anybody is shown."""
SAME_START = 2.0
"""Seconds between two readings of one process' start: a clock set anew moves them a little."""
STUCK = timedelta(seconds=10)
"""After its grace a shim that still lives is stuck, and is ended by force."""


class Life(Enum):
    """Where the folder's process is."""

    waiting = "waiting"
    running = "running"
    ended = "ended"


@dataclass(frozen=True)
class Sight:
    """A folder as observed."""

    life: Life
    attempt: str | None = None
    code: int | None = None
    """Of an ended process; None when it vanished without one."""


class ProcessFolder:
    """A process by the folder that its request, its shim and its end are written in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def create(self, request: Mapping[str, Any]) -> bool:
        """Create the folder with its request, whole; False when it is there already."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".new-{uuid4()}")
        temporary.mkdir(mode=0o700)
        content = {**request, "created": time.time()}
        (temporary / REQUEST).write_text(json.dumps(content))
        try:
            # Fails when the name is taken, as a folder with a request in it is never empty.
            temporary.rename(self.path)
        except OSError:
            shutil.rmtree(temporary)
            return False
        return True

    def request(self) -> dict[str, Any] | None:
        """Read the request; None when the folder is gone."""
        return _read(self.path / REQUEST)

    def start(
        self, environment: Mapping[str, str], *, attempt_name: str
    ) -> subprocess.Popen[bytes]:
        """Start the shim, and return it: whoever starts it waits for it.

        One that finds another in the folder ends at once.
        """
        attempt = str(uuid4())
        command = [sys.executable, "-m", "api.cluster.shim", str(self.path), attempt]
        with (self.path / LOG).open("ab") as log:
            return subprocess.Popen(
                command,
                env={**environment, attempt_name: attempt},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def look(self) -> Sight | None:
        """Observe the process; what a vanished shim left running is ended. None: no folder."""
        if self.request() is None:
            return None
        started = _read(self.path / STARTED)
        if started is None:
            return Sight(Life.waiting)
        alive = _alive(started)
        # Looked at after the shim was: it writes the end before it goes.
        ended = _read(self.path / ENDED)
        if ended is None and alive:
            self._end_if_stuck(started)
            return Sight(Life.running, started["attempt"])
        if ended is None:
            _end_session(started["pid"])
            write_new(self.path / ENDED, {"code": None})
            ended = _read(self.path / ENDED) or {"code": None}
        return Sight(Life.ended, started["attempt"], ended["code"])

    def ask_to_end(self) -> bool:
        """Ask the process to end, once; True when nothing of it runs (any more)."""
        if self.request() is None:
            return True
        # The tombstone first: a shim that begins just now looks for it after it wrote that it has.
        asked_first = write_new(self.path / TOMBSTONE, {"at": time.time()})
        sight = self.look()
        if sight is None or sight.life is not Life.running:
            return True
        started = _read(self.path / STARTED)
        if asked_first and started is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started["pid"], signal.SIGTERM)
        return False

    @property
    def pid(self) -> int | None:
        """The shim's number; None before it began."""
        started = _read(self.path / STARTED)
        return started["pid"] if started else None

    @property
    def is_leaving(self) -> bool:
        """Whether somebody asked for its end."""
        return (self.path / TOMBSTONE).exists()

    def log(self) -> str:
        """Return the end of what it printed."""
        try:
            with (self.path / LOG).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def forget(self) -> None:
        """Remove the folder; whoever is killed in between leaves all of it or none."""
        aside = self.path.with_name(f".gone-{uuid4()}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _end_if_stuck(self, started: Mapping[str, Any]) -> None:
        tombstone, request = _read(self.path / TOMBSTONE), self.request()
        if tombstone is None or request is None:
            return
        if time.time() > tombstone["at"] + request["grace"] + STUCK.total_seconds():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started["pid"], signal.SIGKILL)


def folders_in(parent: Path) -> Sequence[ProcessFolder]:
    """Return the folders of a parent, the oldest request first."""
    found = []
    for path in parent.glob("[!.]*"):
        request = _read(path / REQUEST)
        if request is not None:
            found.append((request["created"], path))
    return [ProcessFolder(path) for _, path in sorted(found)]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def _alive(started: Mapping[str, Any]) -> bool:
    """Tell whether the shim runs: its number may belong to another process by now."""
    try:
        process = psutil.Process(started["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - started["time"]) < SAME_START)
    except psutil.Error:  # gone, or somebody else's, which we may not look at
        return False


def _end_session(leader: int) -> None:
    """End what a vanished shim left: two attempts never run at once.

    A session's number is not given away while a process is in it; if a process of that number
    lives, it is a stranger's, and our session had ended before.
    """
    deadline = time.monotonic() + STUCK.total_seconds()
    while (left := _left_in_session(leader)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def _left_in_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) != leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid == leader:
                return []
            found.append(process)
    return found
