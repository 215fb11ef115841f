"""How the process gets memory from the system."""

import ctypes
import platform
from typing import Final

TRIM_THRESHOLD: Final = -1
TOP_PAD: Final = -2
MMAP_MAX: Final = -4
"""Parameters of glibc's `mallopt`, from its malloc.h."""
ROOM: Final = 64 * 1024 * 1024
"""Bytes asked for beyond what is needed, when more is."""


def keep_freed_memory() -> None:
    """Let a step reuse the memory of the one before; does nothing where the C library is not glibc.

    Otherwise large tensors are mapped anew each time, and the kernel fills all their pages with
    zeros again: a fifth of a training step on the CPU (docs/training.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TOP_PAD, ROOM)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
