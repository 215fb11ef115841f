"""The worker's sign of life: a file that it touches, and `python -m api.heartbeat FILE` that looks.

Standard library only: a probe runs it every minute.
"""

import argparse
import sys
import time
from pathlib import Path

NAME = "heartbeat"
"""The file's name in the worker's folder."""


def beat(folder: Path) -> None:
    """Leave the sign; a folder that is gone is made anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).touch()


def problem(file: Path, *, within: float) -> str | None:
    """Say what is wrong with the sign; None when it is younger than so many seconds."""
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        return f"{file}: {error.strerror}"
    return f"{file}: last touched {age:.0f} s ago, expected {within:g}" if age > within else None


def main() -> None:
    """End with 0 when the worker lives."""
    parser = argparse.ArgumentParser(prog="api.heartbeat", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--within", type=float, default=600.0, help="seconds")
    given = parser.parse_args()
    found = problem(given.file, within=given.within)
    if found:
        sys.exit(found)


if __name__ == "__main__":
    main()
