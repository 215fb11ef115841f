"""Which pictures come when: pure functions of the seed, so that a resumed run sees the same."""

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def epoch_order(labels: Rows, *, seed: int, epoch: int, oversample: bool) -> Rows:
    """Return the places (in `labels`) of one epoch's pictures, shuffled by seed and epoch alone.

    With `oversample` every class comes as often as the commonest: whole rounds of its pictures,
    and of the last round a random part.
    """
    random = np.random.default_rng([seed, epoch])
    if not oversample:
        return random.permutation(len(labels))
    most = int(np.bincount(labels).max())
    drawn = [_rounds(np.flatnonzero(labels == label), most, random) for label in np.unique(labels)]
    return random.permutation(np.concatenate(drawn))


def batches(order: Rows, size: int, *, least: int = 2) -> list[Rows]:
    """Cut an order into as few batches of at most `size` as can be, and as equal as can be.

    A small rest would count its pictures for more than all others', and BatchNorm would learn from
    few. No batch has fewer than `least`, of which BatchNorm needs two in each process: rather is
    one larger than `size`.
    """
    count = min(math.ceil(len(order) / size), len(order) // least)
    return np.array_split(order, max(count, 1))


def step_seed(seed: int, step: int, *, rank: int = 0) -> int:
    """Return the seed of all that one process draws in one step (augmentation, dropout)."""
    entropy = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _rounds(places: Rows, count: int, random: np.random.Generator) -> Rows:
    whole, part = divmod(count, len(places))
    return np.concatenate([np.tile(places, whole), random.permutation(places)[:part]])
