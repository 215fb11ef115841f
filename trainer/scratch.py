"""Room for arrays: in memory, or where the system may write them to disk and nothing is left."""

import tempfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainer.settings import cache_folder

Room = Callable[[tuple[int, ...]], NDArray[np.float32]]
"""Told a shape, returns an array to write into."""


def in_memory(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return room for float32 numbers."""
    return np.empty(shape, np.float32)


def scratch_array(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return zeros of a shape, float32, in a file without a name that ends with the process."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        zeros: NDArray[np.float32] = np.memmap(file, np.float32, mode="w+", shape=shape)
    return zeros
