"""The pure rules: confusion, label noise, paired comparison."""

from math import comb

import numpy as np
import pytest

from api.evaluation.comparison import Pairs, bootstrap_difference, compare, flips, mcnemar
from api.evaluation.noise import OutOfFold, Shape, class_noise, confident_joint
from bearloop.confusion import Confusion, most_confused

CLASSES = [10, 20, 30]


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


class TestMostConfused:
    MATRIX = ((5, 2, 0), (1, 4, 2), (3, 0, 6))

    def test_pairs_come_from_the_most_frequent_and_equals_in_class_order(self) -> None:
        found = most_confused(CLASSES, self.MATRIX, least=1)
        assert found[0] == Confusion(label=30, predicted=10, images=3)
        assert [(pair.label, pair.predicted) for pair in found[1:3]] == [(10, 20), (20, 30)]
        assert len(found) == 4

    def test_pairs_below_the_least_are_left_out(self) -> None:
        assert [pair.images for pair in most_confused(CLASSES, self.MATRIX, least=2)] == [3, 2, 2]
        assert len(most_confused(CLASSES, self.MATRIX, least=0)) == 4


def noisy(
    *, wrong: dict[tuple[int, int], float], n: int = 600, k: int = 4, seed: int = 0
) -> tuple[OutOfFold, np.ndarray]:
    """Make n images of k classes, of whose labels shares are wrong, and a good model's view."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, k, n)
    label = truth.copy()
    for (true, given), share in wrong.items():
        label[(truth == true) & (random.random(n) < share)] = given
    scores = random.normal(0, 1, (n, k))
    scores[np.arange(n), truth] += 6
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    best = p.argmax(axis=1)
    rows = np.arange(n)
    return OutOfFold(label, best, p[rows, label], p[rows, best]), p


class TestNoise:
    def test_a_leak_of_one_class_into_another_is_found_and_called_biased(self) -> None:
        rows, _ = noisy(wrong={(1, 0): 0.2})
        found = class_noise(rows, [0, 1, 2, 3])
        assert found[0].shape is Shape.biased
        assert found[0].leaks[0].to == 1
        assert found[0].wrong is not None
        # A fifth of class 1 carries label 0: a sixth of what is labelled 0.
        assert found[0].wrong.low < 1 / 6 < found[0].wrong.high
        assert found[2].wrong is not None
        assert found[2].wrong.value < 0.03

    def test_noise_from_everywhere_is_called_random(self) -> None:
        rows, _ = noisy(wrong={(true, 0): 0.1 for true in (1, 2, 3)}, n=1200)
        assert class_noise(rows, [0, 1, 2, 3])[0].shape is Shape.random

    def test_the_joint_is_the_reference_implementations(self) -> None:
        count = pytest.importorskip("cleanlab.count")
        wrong = {(1, 0): 0.2, (2, 3): 0.1, (0, 2): 0.05}
        rows, p = noisy(wrong=wrong, n=2000)
        joint = confident_joint(rows, [0, 1, 2, 3])
        other = count.compute_confident_joint(rows.label, p, calibrate=False)
        # Ours knows two probabilities of an image, theirs all: they differ where a third class
        # passes its threshold and neither of the two does.
        assert np.abs(joint - other).sum() <= 0.005 * len(rows.label)

    def test_two_classes_are_biased_when_noise_goes_one_way(self) -> None:
        one_way, _ = noisy(wrong={(1, 0): 0.2}, k=2)
        assert class_noise(one_way, [0, 1])[0].shape is Shape.biased
        both, _ = noisy(wrong={(1, 0): 0.1, (0, 1): 0.1}, k=2)
        assert class_noise(both, [0, 1])[0].shape is Shape.random

    def test_few_doubts_are_not_judged_and_none_is_clean(self) -> None:
        label, predicted = ids(10, 10, 10, 20, 20), ids(10, 10, 20, 20, 20)
        rows = OutOfFold(label, predicted, np.array([0.9, 0.9, 0.1, 0.9, 0.9]), np.full(5, 0.9))
        first, second, third = class_noise(rows, CLASSES)
        assert (first.shape, second.shape, third.shape) == (
            Shape.unclear,
            Shape.clean,
            Shape.clean,
        )
        assert (third.images, third.wrong) == (0, None)


class TestComparison:
    def test_mcnemar_is_the_exact_binomial_test(self) -> None:
        for fixed, broken in ((0, 0), (1, 0), (3, 9), (9, 3), (10, 10), (0, 20)):
            n, least = fixed + broken, min(fixed, broken)
            tail = sum(comb(n, k) for k in range(least + 1)) / 2**n
            assert mcnemar(fixed, broken) == pytest.approx(min(1.0, 2 * tail))
        assert 0 <= mcnemar(499_000, 501_000) < 0.05
        assert mcnemar(0, 100_000) == 0

    def test_the_difference_is_paired_seeded_and_covered(self) -> None:
        found = bootstrap_difference(1000, fixed=60, broken=20)
        assert found == bootstrap_difference(1000, fixed=60, broken=20)
        assert found.value == pytest.approx(-0.04)
        # The normal approximation of the paired difference.
        half = 1.96 * np.sqrt((80 - 40**2 / 1000) / 1000**2)
        assert found.low == pytest.approx(-0.04 - half, abs=0.002)
        assert found.high == pytest.approx(-0.04 + half, abs=0.002)

    def test_flips_go_both_ways_and_classes_are_told_apart(self) -> None:
        pairs = Pairs(
            label=ids(10, 10, 20, 20, 20), a=ids(20, 10, 20, 20, 10), b=ids(10, 10, 10, 20, 10)
        )
        found = compare(pairs, CLASSES)
        assert found is not None
        assert (found.images, found.fixed, found.broken) == (5, 1, 1)
        assert (found.error_a.value, found.error_b.value) == (0.4, 0.4)
        assert found.p == 1
        black, grizzly = found.classes
        assert (black.error_a.value, black.error_b.value) == (0.5, 0)
        assert (grizzly.error_a.n, grizzly.error_b.value) == (3, pytest.approx(2 / 3))
        fixed, broken = flips(pairs)
        assert (list(fixed), list(broken)) == ([0], [2])

    def test_without_images_there_is_nothing_to_compare(self) -> None:
        assert compare(Pairs(ids(), ids(), ids()), CLASSES) is None
