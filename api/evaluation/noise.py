"""How many labels of a class are wrong, and where they leak: estimated out of fold."""

from dataclasses import dataclass
from enum import StrEnum
from math import comb
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.report import Metric
from bearloop.intervals import wilson

ENOUGH: Final = 5
"""Doubted labels below which the shape of the noise is not judged."""
SIGNIFICANCE: Final = 0.05
"""Over all possible targets of a class together."""

Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


class Shape(StrEnum):
    """Whether wrong labels of a class have one source or many."""

    clean = "clean"
    """No label is doubted."""
    unclear = "unclear"
    """Too few are doubted to say."""
    biased = "biased"
    """One other class holds more of them than chance gives it."""
    random = "random"
    """They spread over the other classes as chance would."""


class OutOfFold(NamedTuple):
    """What models that did not see the label say of n labelled images; four columns."""

    label: Ids
    predicted: Ids
    p_label: Shares
    confidence: Shares
    """p(predicted)."""


class Leak(NamedTuple):
    """Labels of one class that look like another."""

    to: int
    """Class id."""
    images: int
    share: float
    """Of the class's judged images."""


@dataclass(frozen=True)
class ClassNoise:
    """The estimate of one class."""

    label: int
    """Class id."""
    images: int
    wrong: Metric | None
    """Share of wrong labels over the images that the models are sure of; None without any."""
    shape: Shape
    leaks: tuple[Leak, ...]
    """The most frequent first."""


def class_noise(rows: OutOfFold, classes: list[int]) -> list[ClassNoise]:
    """Estimate each class's wrong labels by its confident joint (Northcutt et al. 2021).

    An image counts for a class when its probability reaches the mean that images of that label
    get; a class's threshold so forgives a model that is less sure of it. Images that reach no
    threshold are left out of the share.
    """
    joint = confident_joint(rows, classes)
    sizes = [int(np.count_nonzero(rows.label == label)) for label in classes]
    wrong = [_wrong(joint, at) for at in range(len(classes))]
    return [
        ClassNoise(
            label=label,
            images=sizes[at],
            wrong=wrong[at],
            shape=_shape(joint, at, wrong),
            leaks=_leaks(joint, at, classes),
        )
        for at, label in enumerate(classes)
    ]


def confident_joint(rows: OutOfFold, classes: list[int]) -> Ids:
    """Count, classes x classes, the images of label i that are confidently of class j."""
    size = len(classes)
    places = {label: at for at, label in enumerate(classes)}
    label = _places(rows.label, places)
    predicted = _places(rows.predicted, places)
    threshold = _thresholds(label, rows.p_label, size)
    sure_of_predicted = rows.confidence >= threshold[predicted]
    sure_of_label = rows.p_label >= threshold[label]
    counted = sure_of_predicted | sure_of_label
    # The prediction is the more probable of the two, so it wins where both reach.
    seen_as = np.where(sure_of_predicted, predicted, label)
    joint = np.zeros((size, size), dtype=np.int64)
    np.add.at(joint, (label[counted], seen_as[counted]), 1)
    return joint


def _places(ids: Ids, places: dict[int, int]) -> Ids:
    found, inverse = np.unique(ids, return_inverse=True)
    return np.array([places[int(one)] for one in found], dtype=np.int64)[inverse]


def _thresholds(label: Ids, p_label: Shares, size: int) -> Shares:
    count = np.bincount(label, minlength=size)
    total = np.bincount(label, weights=p_label, minlength=size)
    # A class without images is nobody's target: no probability reaches 2.
    return np.where(count > 0, total / np.maximum(count, 1), 2.0)


def _wrong(joint: Ids, at: int) -> Metric | None:
    judged = int(joint[at].sum())
    return wilson(judged - int(joint[at, at]), judged) if judged else None


def _leaks(joint: Ids, at: int, classes: list[int]) -> tuple[Leak, ...]:
    judged = int(joint[at].sum())
    found = [
        Leak(to=classes[to], images=int(joint[at, to]), share=float(joint[at, to]) / judged)
        for to in range(len(classes))
        if to != at and joint[at, to]
    ]
    return tuple(sorted(found, key=lambda leak: -leak.images))


def _shape(joint: Ids, at: int, wrong: list[Metric | None]) -> Shape:
    others = np.delete(joint[at], at)
    doubted = int(others.sum())
    if doubted == 0:
        return Shape.clean
    if doubted < ENOUGH:
        return Shape.unclear
    if len(others) == 1:
        return _shape_of_two(wrong[at], wrong[1 - at])
    # The fullest of m targets was picked after looking: its chance counts m times (Bonferroni).
    chance = _at_least(int(others.max()), doubted, 1 / len(others)) * len(others)
    return Shape.biased if chance < SIGNIFICANCE else Shape.random


def _shape_of_two(own: Metric | None, other: Metric | None) -> Shape:
    # With one possible target the spread says nothing: noise is biased when it goes one way.
    one_way = own is not None and (other is None or own.low > other.high)
    return Shape.biased if one_way else Shape.random


def _at_least(count: int, n: int, share: float) -> float:
    """Return the chance of `count` or more of `n`, each with chance `share`."""
    if n > 1000:
        # Far beyond where the exact sum matters; Hoeffding's bound is on the safe side.
        gap = max(0.0, count / n - share)
        return float(np.exp(-2 * n * gap**2))
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count, n + 1))
