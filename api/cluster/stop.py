"""`python -m api.cluster.stop FOLDER`: end all processes of a machine, as `bearloop up` leaves.

Nothing is forgotten: at the next start an interrupted job goes on from its checkpoint, and an
endpoint answers on its port again.
"""

import argparse
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from api.cluster.folders import Life, ProcessFolder, folders_in

LIMIT = timedelta(seconds=30)
"""What is not gone by then is ended by force."""
LOOK_EVERY = 0.05


def main() -> None:
    """Ask every process to end, wait for it, and end what stays."""
    parser = argparse.ArgumentParser(prog="python -m api.cluster.stop", description=__doc__)
    parser.add_argument("folder", type=Path)
    stop_all(parser.parse_args().folder, limit=LIMIT)


def stop_all(folder: Path, *, limit: timedelta) -> int:
    """End the jobs and servers below the folder; returns how many ran."""
    running = _running(folder)
    _signal(running, signal.SIGTERM)
    deadline = time.monotonic() + limit.total_seconds()
    while _running(folder) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    _signal(_running(folder), signal.SIGKILL)
    return len(running)


def _running(folder: Path) -> list[ProcessFolder]:
    parents = [folder / "jobs", *(folder / "deployments").glob("*/servers")]
    return [
        process
        for parent in parents
        for process in folders_in(parent)
        if (sight := process.look()) and sight.life is Life.running
    ]


def _signal(processes: Iterable[ProcessFolder], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            if process.pid is not None:
                (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)


if __name__ == "__main__":
    main()
