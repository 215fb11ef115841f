"""The heads that judge labels are logistic regressions, however their features are read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from trainer.heads import fit_head, head_judge
from trainer.scratch import scratch_array

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_head_is_multinomial_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    known = (rng.normal(size=(300, 20)) + np.eye(20)[labels]).astype(np.float32)
    penalty = 0.05
    weight, bias = fit_head(
        torch.split(torch.from_numpy(known), 70),
        torch.from_numpy(labels),
        classes=5,
        penalty=penalty,
    )
    ours = (torch.from_numpy(known) @ weight + bias).softmax(dim=1).numpy()
    # scikit-learn minimises the sum, C times, beside half the squared norm.
    peer = LogisticRegression(C=1 / (penalty * 300), tol=1e-8, max_iter=5000)
    theirs: NDArray[np.float64] = peer.fit(known, labels).predict_proba(known)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_chunks_from_a_file_are_judged_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BEARLOOP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200).tolist()
    features = scratch_array((200, 16))
    features[:] = 5 + rng.normal(size=(200, 16)) + 4 * np.eye(16)[labels]
    taught, judged = np.arange(150), np.arange(150, 200)
    whole = head_judge(features, labels, classes=3, device=CPU)(taught, judged)
    by_sevens = head_judge(features, labels, classes=3, device=CPU, chunk_bytes=16 * 4 * 7)
    parts = by_sevens(taught, judged)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert (parts.argmax(axis=1) == labels[150:]).mean() > 0.9
    assert not list((tmp_path / "cache").iterdir())
