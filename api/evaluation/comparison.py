"""Two runs on the same images: is one better, by how much, and where; old and cleaned labels."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.report import Metric
from bearloop.intervals import wilson

DRAWS: Final = 10_000
"""Bootstrap samples; the interval's ends are then known to about 1 % of its width."""
SEED: Final = 42

Ids = NDArray[np.int64]


class Pairs(NamedTuple):
    """n images that both runs predicted; class ids, one per image."""

    label: Ids
    a: Ids
    """Predicted by run a."""
    b: Ids


class Difference(NamedTuple):
    """Error of b less error of a, 95 % interval by paired bootstrap; below 0, b is better."""

    value: float
    low: float
    high: float


class ClassChange(NamedTuple):
    """One class, on the images that carry its label."""

    label: int
    error_a: Metric
    error_b: Metric


@dataclass(frozen=True)
class Paired:
    """How two runs differ under one set of labels."""

    images: int
    error_a: Metric
    error_b: Metric
    difference: Difference
    p: float
    """Exact McNemar test, two-sided: how often chance alone flips so unevenly."""
    fixed: int
    """Wrong by a, right by b."""
    broken: int
    """Right by a, wrong by b."""
    classes: tuple[ClassChange, ...]


def compare(pairs: Pairs, classes: list[int]) -> Paired | None:
    """Compare on the images given; None when there is none."""
    n = len(pairs.label)
    if n == 0:
        return None
    wrong_a, wrong_b = pairs.a != pairs.label, pairs.b != pairs.label
    fixed = int(np.count_nonzero(wrong_a & ~wrong_b))
    broken = int(np.count_nonzero(wrong_b & ~wrong_a))
    return Paired(
        images=n,
        error_a=wilson(int(wrong_a.sum()), n),
        error_b=wilson(int(wrong_b.sum()), n),
        difference=bootstrap_difference(n, fixed=fixed, broken=broken),
        p=mcnemar(fixed, broken),
        fixed=fixed,
        broken=broken,
        classes=_class_changes(pairs, classes),
    )


def bootstrap_difference(n: int, *, fixed: int, broken: int) -> Difference:
    """Resample the n images with replacement, both runs' answers together; seeded.

    An image adds -1 (fixed), +1 (broken) or 0, so a resample is one multinomial draw of counts.
    """
    shares = [fixed / n, broken / n, (n - fixed - broken) / n]
    draws = np.random.default_rng(SEED).multinomial(n, shares, size=DRAWS)
    low, high = np.quantile((draws[:, 1] - draws[:, 0]) / n, [0.025, 0.975])
    return Difference((broken - fixed) / n, float(low), float(high))


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact two-sided p of McNemar's test; 1 when nothing flipped."""
    flips = fixed + broken
    if flips == 0:
        return 1.0
    steps = np.arange(min(fixed, broken))
    # ln C(n, k) grows by ln((n - k) / (k + 1)); sums of logarithms hold for a million flips too.
    terms = np.concatenate([[0.0], np.cumsum(np.log((flips - steps) / (steps + 1)))])
    tail = float(np.exp(terms - flips * np.log(2)).sum())
    return min(1.0, 2 * tail)


def flips(pairs: Pairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of the images that b fixed, and of those that it broke."""
    right_a, right_b = pairs.a == pairs.label, pairs.b == pairs.label
    return np.flatnonzero(~right_a & right_b), np.flatnonzero(right_a & ~right_b)


def _class_changes(pairs: Pairs, classes: list[int]) -> tuple[ClassChange, ...]:
    changes = []
    for label in classes:
        own = pairs.label == label
        if n := int(own.sum()):
            wrong_a = int(np.count_nonzero(pairs.a[own] != label))
            wrong_b = int(np.count_nonzero(pairs.b[own] != label))
            changes.append(ClassChange(label, wilson(wrong_a, n), wilson(wrong_b, n)))
    return tuple(changes)
