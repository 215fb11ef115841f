"""How likely each label is wrong, by the predictions of models that never saw it.

The score is 1 - p(label) out of fold, whose order is that of the out-of-fold loss. Mixing in the
normalized margin gained nothing on human label noise that it was not tuned on
(benchmarks/label_issues.py); nor do filters with a threshold beat the order itself.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

CONFLICT: Final = -1
"""The label of an image with contradicting claims; others are places in the class order."""

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


def label_issue_scores(labels: Labels, probabilities: Floats) -> NDArray[np.float64]:
    """Score n labels from 0 to 1, higher is more likely wrong, by out-of-fold [n, classes].

    A conflict is 1: one of its two labels is wrong for sure.
    """
    scores = np.ones(len(labels))
    known = np.flatnonzero(labels != CONFLICT)
    scores[known] = 1 - probabilities[known, labels[known]].astype(np.float64)
    return np.clip(scores, 0, 1)
