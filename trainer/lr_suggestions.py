"""Rates that the curve of an lr-find suggests, or why it suggests none: numbers in, numbers out.

The four are fastai's (`minimum`, `steep`, `valley` and `slide` of `fastai.callback.schedule`), and
so is what is left out of the curve. No rule is right for every curve: how far they disagree is
told.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.recipes import Suggestion

Numbers = NDArray[np.float64]
DROPPED_AT_END: Final = 5
"""Points; the loss is running away there."""
DROPPED_AT_START: Final = 10
"""One in so many of the iterations; the smoothed loss is still that of a few batches."""
SLIDE_WIDTH: Final = 15
"""Points between the two slopes that `slide` compares."""
SLIDE_THRESHOLD: Final = 0.005
LEAST_POINTS: Final = SLIDE_WIDTH + 1
FLAT: Final = 0.05
"""Least fall of the smoothed loss, as a share of the first: less is not worth a rate."""
RUNS_AWAY: Final = 2.0
"""Times the lowest smoothed loss so far."""
NOISES: Final = 2.0
"""Least fall of the smoothed loss, in standard errors of the mean that it begins with."""


class Suggested(NamedTuple):
    """What a curve suggests: rates by name, or why there are none."""

    rates: Mapping[Suggestion, float]
    none: Literal["too_few_points", "flat", "not_finite"] | None
    reason: str | None

    @property
    def disagreement(self) -> float | None:
        """Return the highest suggestion over the lowest."""
        return max(self.rates.values()) / min(self.rates.values()) if self.rates else None


def suggest(
    rates: Sequence[float], losses: Sequence[float], *, smoothed: Sequence[float], iterations: int
) -> Suggested:
    """Read the four suggestions off the smoothed losses at growing rates; `losses` tell the noise.

    `iterations` is how many were asked for; a curve may end before. It is cut at the first loss
    that is no number.
    """
    lrs, values = usable(rates, smoothed, iterations=iterations)
    broke = not np.isfinite(np.asarray(smoothed, dtype=np.float64)).all()
    if len(values) < LEAST_POINTS:
        words = f"{len(values)} points of the curve are left, and {LEAST_POINTS} are needed"
        if broke:
            return Suggested({}, "not_finite", f"the loss was soon no number: {words}")
        return Suggested({}, "too_few_points", words)
    calm = _calm(values)
    fall = float(np.max(np.maximum.accumulate(values[:calm]) - values[:calm]))
    start = iterations // DROPPED_AT_START
    noise = _noise(losses[: start + calm], averaged=max(1, start))
    least = max(FLAT * float(values[0]), NOISES * noise)
    if fall < least:
        words = f"the smoothed loss falls by {fall:.3g} at most, from {values[0]:.3g}"
        return Suggested({}, "flat", f"{words}, and less than {least:.3g} is no learning")
    return Suggested({name: rule(lrs, values) for name, rule in RULES.items()}, None, None)


def usable(
    rates: Sequence[float], smoothed: Sequence[float], *, iterations: int
) -> tuple[Numbers, Numbers]:
    """Return the part of the curve that says something: no start, no end, nothing not finite."""
    start = iterations // DROPPED_AT_START
    lrs = np.asarray(rates, dtype=np.float64)[start:-DROPPED_AT_END]
    values = np.asarray(smoothed, dtype=np.float64)[start:-DROPPED_AT_END]
    broken = np.flatnonzero(~np.isfinite(values))
    end = int(broken[0]) if len(broken) else len(values)
    return lrs[:end], values[:end]


def minimum(lrs: Numbers, losses: Numbers) -> float:
    """Return a tenth of the rate at the lowest loss."""
    return float(lrs[losses.argmin()]) / 10


def steepest(lrs: Numbers, losses: Numbers) -> float:
    """Return the rate where the loss falls fastest over the logarithm of the rate."""
    slopes = np.diff(losses) / np.diff(np.log(lrs))
    return float(lrs[slopes.argmin()])


def valley(lrs: Numbers, losses: Numbers) -> float:
    """Return the rate at half of the longest fall: the longest sequence of ever lower losses."""
    lengths = np.ones(len(losses), dtype=np.int64)
    for place in range(1, len(losses)):
        higher = losses[:place] > losses[place]
        lengths[place] = 1 + (lengths[:place][higher].max() if higher.any() else 0)
    end = int(lengths.argmax())
    start = end - int(lengths[end])
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def slide(lrs: Numbers, losses: Numbers) -> float:
    """Return the last rate, from the end, whose slope differs from that of 15 points later."""
    slopes = np.gradient(losses)
    left = len(losses) - LEAST_POINTS
    found = lrs[left]
    while left >= 0 and abs(slopes[left + SLIDE_WIDTH] - slopes[left]) > SLIDE_THRESHOLD:
        found = lrs[left]
        left -= 1
    return float(found)


def _calm(values: Numbers) -> int:
    """Count the points before the loss runs away: what falls behind them was not learnt."""
    away = np.flatnonzero(values > RUNS_AWAY * np.minimum.accumulate(values))
    return int(away[0]) if len(away) else len(values)


def _noise(losses: Sequence[float], *, averaged: int) -> float:
    """Return the standard error of a mean of so many losses, by the median of their steps."""
    if len(losses) < 2:
        return 0.0
    deviation = 1.4826 * float(np.median(np.abs(np.diff(losses)))) / np.sqrt(2)
    return float(deviation / np.sqrt(averaged))


RULES: Final[Mapping[Suggestion, Callable[[Numbers, Numbers], float]]] = {
    "minimum": minimum,
    "steepest": steepest,
    "valley": valley,
    "slide": slide,
}
