"""What a training came to, and several of them as one line of a table."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bearloop.intervals import wilson


class Trained(NamedTuple):
    """One training."""

    seconds: float
    """Of reading, decoding, training and validation; not of starting a program."""
    wrong: int
    """Held-out pictures that it gets wrong."""
    of: int
    passed: float | None = None
    """Seconds of it until the body's pass was done, decoding included; None: there is no pass."""

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.wrong} of {self.of} wrong"


def error(trained: Sequence[Trained]) -> str:
    """Say the error over all trainings, with its interval."""
    wrong, of = sum(one.wrong for one in trained), sum(one.of for one in trained)
    share = wilson(wrong, of)
    return f"{wrong} of {of} wrong, {share.value:.1%} ({share.low:.1%} - {share.high:.1%})"


def seconds(trained: Sequence[Trained]) -> float:
    """Return the median time of a training: one that something disturbed counts little."""
    return median(one.seconds for one in trained)


def beside_the_pass(trained: Sequence[Trained]) -> float:
    """Return how many times the body's pass, and what comes before it, a training takes."""
    return median(one.seconds / one.passed for one in trained if one.passed)


def faster(ours: Sequence[Trained], peer: Sequence[Trained]) -> float:
    """Return how many times as fast we are, over the trainings that both did."""
    both = min(len(ours), len(peer))
    return seconds(peer[:both]) / seconds(ours[:both])
