"""Arrays too large for memory: the system may write them to disk, and nothing is left of them."""

import tempfile

import numpy as np
from numpy.typing import NDArray

from trainer.settings import cache_folder


def scratch_array(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return zeros of a shape, float32, in a file without a name that ends with the process."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        zeros: NDArray[np.float32] = np.memmap(file, np.float32, mode="w+", shape=shape)
    return zeros
