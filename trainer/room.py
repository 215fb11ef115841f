"""Whether a disk has room for what is to be mapped into memory.

A map may be larger than the disk beneath it: what is then written ends the process without a word.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.errors import InputError
from trainer.settings import scratch_limit

Free = Callable[[Path], float]
"""Told a folder, answers how many bytes may still be written there."""
GIGABYTE: Final = 1e9


BLOCK: Final = 512
"""Bytes of what `st_blocks` counts."""


def free_bytes(folder: Path) -> float:
    """Return how many bytes may still be written into a folder that is there."""
    limit = scratch_limit()
    scratch = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    return free if limit is None else min(free, left_within(limit, folder, scratch=scratch))


def left_within(limit: int, folder: Path, *, scratch: Path) -> float:
    """Return what a limit of `scratch` leaves to a folder: where that is elsewhere, all."""
    if not folder.resolve().is_relative_to(scratch.resolve()):
        return math.inf
    return max(0, limit - _held(scratch))


def _held(folder: Path) -> int:
    """Return the bytes that a folder takes of its disk, as `du` and the kubelet count them."""
    held = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                held += Path(place, name).lstat().st_blocks * BLOCK
    return held


def check_room(
    folder: Path,
    needed: int,
    *,
    what: str,
    field: str,
    value: str | None = None,
    way_out: str,
    free: Free = free_bytes,
) -> None:
    """Raise InputError where a folder lacks room for so many bytes of `what`."""
    there = free(folder)
    if needed <= there:
        return
    raise InputError(
        "no_room_on_disk",
        f"{what} need {needed / GIGABYTE:.1f} GB, and {folder} has room for "
        f"{there / GIGABYTE:.1f} GB",
        field=field,
        value=value,
        way_out=f"{way_out}, or give the job more room: on a cluster `trainer.scratch` of the "
        "chart, on one machine another folder (BEARLOOP_CACHE)",
    )
