"""Which classes are taken for which: the lesson's list of the most confused pairs."""

from collections.abc import Sequence
from typing import NamedTuple


class Confusion(NamedTuple):
    """One label that was predicted as another class, and how often."""

    label: int
    """Class id."""
    predicted: int
    """Class id."""
    images: int


def most_confused(
    classes: Sequence[int], matrix: Sequence[Sequence[int]], *, least: int
) -> list[Confusion]:
    """List the pairs off the diagonal with at least `least` images, the most frequent first.

    `matrix[i][j]` counts the label `classes[i]` predicted as `classes[j]`; equal counts keep the
    order of the classes. As fastai's `most_confused(min_val=)`.
    """
    pairs = [
        Confusion(label, predicted, count)
        for label, row in zip(classes, matrix, strict=True)
        for predicted, count in zip(classes, row, strict=True)
        if label != predicted and count >= max(least, 1)
    ]
    return sorted(pairs, key=lambda pair: -pair.images)
