"""The parent of one process of a job or an endpoint: writes down when it began and how it ended.

`python -m api.cluster.shim FOLDER ATTEMPT`, in a session of its own. It outlives the worker, so
that a restarted worker finds the process again; it starts fast, so it imports little.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import psutil

REQUEST, STARTED, ENDED, LOG = "request.json", "started.json", "ended.json", "log.txt"
INTERRUPTED, FINAL = 75, (0, 42)
"""Exit codes of the contract, written out: importing it would take longer than all else here."""
TOMBSTONE = "removed"
"""Exists once somebody asked for the end: what was not begun by then never begins."""
PR_SET_PDEATHSIG = 1


def main(folder: Path, attempt: str) -> None:
    """Run the folder's request to its end, unless another shim does or did."""
    request = json.loads((folder / REQUEST).read_text())
    ending = _Ending(grace=request["grace"])
    signal.signal(signal.SIGTERM, ending.asked)
    signal.signal(signal.SIGALRM, ending.forced)
    mine = psutil.Process()
    started = {"pid": mine.pid, "time": mine.create_time(), "attempt": attempt}
    if not write_new(folder / STARTED, started):
        return
    # Whoever removes it writes the tombstone first and then looks for a shim; the shim does the
    # reverse: one of the two sees the other.
    gone = (folder / TOMBSTONE).exists()
    code = 0 if gone or ending.is_asked else _run(folder, request["command"], ending=ending)
    write_new(folder / ENDED, {"code": ending.judge(code)})
    # Nobody of the session outlives it, itself included: data loaders, torchrun's workers.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def write_new(path: Path, content: dict[str, Any]) -> bool:
    """Create the file whole and on disk; False, and nothing changed, when it is there already."""
    temporary = path.with_name(f".{path.name}-{uuid4()}")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


class _Ending:
    """What happens to the child when the end is asked for: politely, then by force."""

    def __init__(self, *, grace: float) -> None:
        self.grace = grace
        self.is_asked = False
        self.child: subprocess.Popen[bytes] | None = None

    def asked(self, _number: int, _frame: FrameType | None) -> None:
        self.is_asked = True
        # To the child alone: a trainer that writes its checkpoint still needs its own children.
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, self.grace)

    def judge(self, code: int) -> int:
        """Return the exit code to keep: an end that was asked for is no crash."""
        if not self.is_asked or (self.child is not None and code in FINAL):
            return code
        return INTERRUPTED

    def forced(self, _number: int, _frame: FrameType | None) -> None:
        if self.child is not None:
            self.child.kill()


def _run(folder: Path, command: list[str], *, ending: _Ending) -> int:
    with (folder / LOG).open("ab") as log:
        try:
            ending.child = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError as error:
            log.write(f"{command[0]}: {error}\n".encode())
            return 127
        if ending.is_asked:  # between the last look and the start
            ending.asked(0, None)
        code = ending.child.wait()
    return 128 - code if code < 0 else code


def _dies_with(shim: int) -> Callable[[], None]:
    """Make the child end with its shim, where the system can do that; elsewhere it is found."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def ask_for_it() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim:  # it died before the call
            os._exit(1)

    return ask_for_it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
