"""Room for arrays: in memory, or where the system may write them to disk and nothing is left."""

import math
import tempfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainer.room import Free, check_room, free_bytes
from trainer.settings import cache_folder

Room = Callable[[tuple[int, ...]], NDArray[np.float32]]
"""Told a shape, returns an array to write into."""


def in_memory(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return room for float32 numbers."""
    return np.empty(shape, np.float32)


def scratch_array(shape: tuple[int, ...], *, free: Free = free_bytes) -> NDArray[np.float32]:
    """Return zeros of a shape, float32, in a file without a name that ends with the process.

    Raises InputError where the cache's folder has no room for them: `shape` is that of pictures'
    activations.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    check_room(
        folder,
        math.prod(shape) * np.dtype(np.float32).itemsize,
        what=f"activations of {shape[0]} pictures, by which labels are judged,",
        field="recipe.model",
        way_out="take a model with fewer features",
        free=free,
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        zeros: NDArray[np.float32] = np.memmap(file, np.float32, mode="w+", shape=shape)
    return zeros
