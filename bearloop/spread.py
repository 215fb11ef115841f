"""How far runs of different seeds lie apart, and whether two runs differ by more than that."""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import fmean, median, stdev
from typing import Final, Literal

from bearloop.contract.record import Record
from bearloop.intervals import Z_95

T_95: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Quantiles of Student's t for two-sided intervals of 95 %, from one degree of freedom on."""
LEAST_SEEDS: Final = 2

VerdictCode = Literal["a_better", "b_better", "inside_interval", "inside_spread"]


class Spread(Record):
    """One error of each of several seeds, everything else being equal."""

    seeds: int
    mean: float
    low: float
    """The mean's 95 % interval, by Student's t."""
    high: float
    median: float
    least: float
    most: float
    standard_deviation: float
    apart: float
    """What two single runs differ by in 19 of 20 cases, though only their seeds differ."""


class Verdict(Record):
    """Whether a difference between two runs is more than chance."""

    code: VerdictCode
    words: str


def spread_of(errors: Sequence[float]) -> Spread | None:
    """Describe the errors of several seeds; None for less than two of them."""
    if len(errors) < LEAST_SEEDS:
        return None
    deviation, mean = stdev(errors), fmean(errors)
    half = t_95(len(errors) - 1) * deviation / sqrt(len(errors))
    return Spread(
        seeds=len(errors),
        mean=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        median=median(errors),
        least=min(errors),
        most=max(errors),
        standard_deviation=deviation,
        apart=seeds_apart([errors]) or 0.0,
    )


def in_words(spread: Spread | None) -> str:
    """Say a spread in one sentence."""
    if spread is None:
        return "one seed tells nothing of the spread: train with --seeds 5"
    return (
        f"{spread.seeds} seeds: {spread.least:.1%} to {spread.most:.1%}, "
        f"mean {spread.mean:.1%} ({spread.low:.1%} to {spread.high:.1%}); "
        f"two runs that differ by {spread.apart:.1%} or less may differ by their seeds alone"
    )


def seeds_apart(groups: Sequence[Sequence[float]]) -> float | None:
    """Return what two runs that differ in their seed only differ by in 19 of 20 cases.

    The limit of repeatability of ISO 5725, with Student's t for few seeds; each group is the errors
    of one recipe on one version, their variances are pooled. None where no group has two.
    """
    told = [errors for errors in groups if len(errors) >= LEAST_SEEDS]
    freedom = sum(len(errors) - 1 for errors in told)
    if not freedom:
        return None
    squares = sum(stdev(errors) ** 2 * (len(errors) - 1) for errors in told)
    return t_95(freedom) * sqrt(2 * squares / freedom)


def t_95(freedom: int) -> float:
    """Return Student's two-sided 95 % quantile; above 30 by Peizer and Pratt's first terms."""
    if freedom <= len(T_95):
        return T_95[freedom - 1]
    return Z_95 + (Z_95**3 + Z_95) / (4 * freedom)


def judge(
    difference: float,
    *,
    ends: tuple[float, float],
    images: int,
    flipped: int,
    apart: float | None,
) -> Verdict:
    """Say whether run b's error less run a's is more than chance.

    `ends` are those of the difference's interval over the `images`, of which `flipped` are right by
    one run only; `apart` is what seeds differ by, None where one seed each was trained.
    """
    low, high = ends
    told = f"the difference, {difference:+.1%},"
    if apart is not None and abs(difference) <= apart:
        words = (
            f"{told} lies inside the spread of the seeds: runs that differ in nothing else "
            f"differ by up to {apart:.1%}"
        )
        return Verdict(code="inside_spread", words=words)
    if low <= 0 <= high:
        words = f"{told} lies inside its 95 % interval, {low:+.1%} to {high:+.1%}: {images} images "
        return Verdict(code="inside_interval", words=words + _too_few(difference, images, flipped))
    seeds = (
        "; of the seeds' spread one seed each tells nothing: train with --seeds 5"
        if apart is None
        else f", more than seeds make ({apart:.1%})"
    )
    better, code = ("second", "b_better") if difference < 0 else ("first", "a_better")
    words = f"the {better} run is better: {told} has the interval {low:+.1%} to {high:+.1%}{seeds}"
    return Verdict.model_validate({"code": code, "words": words})


def _too_few(difference: float, images: int, flipped: int) -> str:
    if not difference:
        return "tell no difference"
    needed = ceil(Z_95**2 * (flipped / images) / difference**2)
    return f"are too few to tell, some {max(needed, images + 1)} would be enough"
