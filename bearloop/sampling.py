"""Training pictures changed without a device: what the trainer samples in batches, one by one.

For looking at, on a machine without torch; the trainer's own is `trainer.augment`, and a test
holds that the two agree.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.recipes import Augment
from bearloop.transforms import EDGE, SPARSEST, draw_changes, moves, relights

Values = NDArray[np.floating]


def change_pictures(
    pictures: Iterable[NDArray[np.uint8]], changes: Augment, *, count: int, size: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` presized pictures, uint8 [p, p, 3], as a step of this seed sees them.

    uint8 [size, size, 3] each, not normalised.
    """
    drawn = draw_changes(count, changes, random=np.random.default_rng(seed))
    for pixels, matrix, brightness, contrast in zip(pictures, *drawn, strict=True):
        values: Values = pixels.astype(np.float32) / 255
        if moves(changes) or len(values) != size:
            values = sample(values, matrix, size, padding=changes.padding)
        if relights(changes):
            values = _relight(values, brightness, contrast)
        yield np.rint(values * 255).astype(np.uint8)


def sample(values: Values, matrix: Values, size: int, *, padding: str) -> Values:
    """Read [size, size, 3] from [p, p, 3] at the points that the 3 x 3 matrix names."""
    if len(values) > SPARSEST * size:
        values = _averaged(_averaged(values, 2 * size).swapaxes(0, 1), 2 * size).swapaxes(0, 1)
    side = len(values)
    axis = (np.arange(size) * 2 + 1) / size - 1
    x, y = np.meshgrid(axis, axis)
    moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.astype(np.float64).T
    # In pixels, whose centres are whole numbers; where the view has no depth it reads somewhere.
    with np.errstate(divide="ignore", invalid="ignore"):
        at: Values = np.nan_to_num(((moved[..., :2] / moved[..., 2:] + 1) * side - 1) / 2)
    at = _kept_inside(at, side, padding)
    low = np.floor(at).astype(np.int64)
    share = (at - low).astype(np.float32)
    total = np.zeros((size, size, 3), dtype=np.float32)
    for right in (0, 1):
        for down in (0, 1):
            column, row = low[..., 0] + right, low[..., 1] + down
            weight = np.abs(1 - right - share[..., 0]) * np.abs(1 - down - share[..., 1])
            there = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            read = values[row.clip(0, side - 1), column.clip(0, side - 1)]
            total += read * (weight * there)[..., None]
    return total


def _kept_inside(at: Values, side: int, padding: str) -> Values:
    """Bring places beyond the outer pixels' edges back as the padding says."""
    if padding == "zeros":
        return at.clip(-2.0, side + 1.0)
    if padding == "reflection":
        along = np.mod(at + 0.5, 2 * side)
        at = np.minimum(along, 2 * side - along) - 0.5
    return at.clip(0, side - 1)


def _averaged(values: Values, side: int) -> Values:
    """Shrink the first axis to `side` by the mean of all pixels that a new one touches."""
    ends = np.arange(side + 1) * len(values)
    first, last = ends[:-1] // side, -(-ends[1:] // side)
    sums = np.concatenate([np.zeros_like(values[:1]), values]).cumsum(axis=0, dtype=np.float64)
    means = (sums[last] - sums[first]) / (last - first)[:, None, None]
    return np.asarray(means, dtype=np.float32)


def _relight(values: Values, brightness: np.floating, contrast: np.floating) -> Values:
    inside = values.clip(EDGE, 1 - EDGE)
    logits = np.log(inside / (1 - inside))
    return np.asarray(1 / (1 + np.exp(-(logits + brightness) * contrast)))
