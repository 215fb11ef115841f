"""How sure a counted share is, by Wilson's interval, which holds for 0 errors too; and a mean."""

from math import sqrt
from typing import Final

from bearloop.contract.report import Metric

Z_95: Final = 1.959963984540054
"""Quantile of the normal distribution for a two-sided interval of 95 %."""


def wilson(count: int, n: int) -> Metric:
    """Return the share `count / n` with its 95 % interval (Wilson 1927); n is at least 1."""
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"count {count} of n {n}: expected 0 <= count <= n and n >= 1")
    share = count / n
    squeeze = 1 + Z_95**2 / n
    centre = (share + Z_95**2 / (2 * n)) / squeeze
    half = Z_95 * sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2)) / squeeze
    # At 0 and at n errors one end is exact; rounding must not put it beside the share.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == n else centre + half
    return Metric(value=share, low=low, high=high, n=n)


def of_mean(mean: float, *, deviation: float, n: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a mean of `n` values of 0 or more.

    By the normal distribution: of few and very unequal values it is somewhat too narrow.
    """
    half = Z_95 * deviation / sqrt(n)
    return max(0.0, mean - half), mean + half


def in_words(metric: Metric) -> str:
    """Say a share with its interval, e.g. `2.1% (0.7% to 6.0%), 3 of 141`."""
    count = round(metric.value * metric.n)
    return f"{metric.value:.1%} ({metric.low:.1%} to {metric.high:.1%}), {count} of {metric.n}"
