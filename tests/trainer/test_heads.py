"""The heads that judge labels are logistic regressions, however their features are read."""

from collections.abc import Iterator
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from trainer.errors import InputError
from trainer.heads import fit_head, fit_held, head_judge
from trainer.scratch import scratch_array

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEARLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    cache: Path,
) -> None:
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
    assert not list(cache.iterdir())


class Scarce(list[Tensor]):
    """Chunks for a device that has room for two of them, beside what reads them."""

    read = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.read += 1
        there = WeakSet[Tensor]()
        for chunk in super().__iter__():
            if len(there) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            travelled = chunk.clone()
            there.add(travelled)
            yield travelled
            del travelled


def test_features_that_a_device_cannot_hold_are_read_again_and_again() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, 100))
    known = torch.from_numpy(rng.normal(size=(100, 8)).astype(np.float32))
    few, many = Scarce(torch.split(known, 50)), Scarce(torch.split(known, 10))
    expected = fit_head(torch.split(known, 10), labels, classes=3, penalty=0.5)
    for chunks in (few, many):
        found = fit_held(chunks, labels, classes=3, penalty=0.5)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert few.read == 1
    assert many.read > 2


def test_scratch_that_has_no_room_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match="activations of 100 pictures") as refused:
        scratch_array((100, 8), free=lambda _: 100 * 8 * 4 - 1)
    assert refused.value.problem.code == "no_room_on_disk"
    assert scratch_array((100, 8), free=lambda _: 100 * 8 * 4).shape == (100, 8)
    assert not list(cache.iterdir())
