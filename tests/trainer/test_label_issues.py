"""Label scores equal cleanlab's, and put planted errors first."""

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from bearloop.intervals import wilson
from trainer.label_issues import CONFLICT, label_issue_scores


def random_predictions(
    *, n: int, classes: int, seed: int, temperature: float = 3.0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + temperature * np.eye(classes)[labels]
    p = np.exp(logits)
    return labels, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 10])
def test_the_score_is_one_less_cleanlabs_self_confidence(classes: int, seed: int) -> None:
    labels, p = random_predictions(n=500, classes=classes, seed=seed)
    theirs = get_label_quality_scores(labels, p, method="self_confidence")
    np.testing.assert_allclose(1 - label_issue_scores(labels, p), theirs, rtol=0, atol=1e-9)


def test_scores_lie_between_0_and_1_and_a_conflict_is_1() -> None:
    labels, p = random_predictions(n=300, classes=4, seed=1)
    labels[::10] = CONFLICT
    scores = label_issue_scores(labels, p)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert (scores[::10] == 1).all()
    assert (scores[1::10] < 1).all()


def test_planted_errors_come_first() -> None:
    truth, p = random_predictions(n=2000, classes=5, seed=2, temperature=6)
    labels = truth.copy()
    wrong = np.random.default_rng(0).choice(2000, 100, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 5
    first = np.argsort(-label_issue_scores(labels, p))[:100]
    assert np.isin(first, wrong).mean() > 0.95


def test_only_conflicts_are_no_trouble() -> None:
    p = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert label_issue_scores(np.array([CONFLICT, CONFLICT]), p).tolist() == [1.0, 1.0]


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    metric = wilson(81, 263)
    assert (metric.value, metric.n) == (81 / 263, 263)
    assert (round(metric.low, 4), round(metric.high, 4)) == (0.2553, 0.3662)
    none = wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    assert wilson(20, 20).high == 1.0
    with pytest.raises(ValueError, match="n >= 1"):
        wilson(0, 0)
