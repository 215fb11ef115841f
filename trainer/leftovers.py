"""Files that a killed process left half-written in the cache: told from those being written.

Whoever writes holds a lock that ends with its process, however that ends. A file that nobody holds
goes when it is a day old too, for disks that know no locks.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

OLD: Final = 24 * 3600
"""Seconds since the last write of a file."""
log = logging.getLogger(__name__)


@contextmanager
def held(path: Path) -> Iterator[BinaryIO]:
    """Begin an empty file that is no leftover as long as this lasts, nor for a day from then on."""
    with path.open("wb") as file:
        with suppress(OSError):  # no locks on this disk: the day must do
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        # What is written to a map in memory is no write to every disk.
        os.utime(file.fileno())


def remove_leftovers(files: Iterable[Path]) -> None:
    """Remove those that nobody has written to for a day and nobody holds."""
    for path in files:
        with suppress(FileNotFoundError):  # another process removes them at the same time
            # In this order: who was done in between has just touched it.
            if not _is_held(path) and time.time() - path.stat().st_mtime > OLD:
                size = path.stat().st_size
                path.unlink()
                log.info("removed %s: %d bytes that a killed process left half-written", path, size)


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
