"""Linear heads that judge labels: multinomial logistic regression on a body's features.

The features of many pictures are more than memory should hold: they are read in chunks, again for
each step of the solver.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.out_of_fold import Judge

PENALTY: Final = 0.5
"""Weight of half the squared norm beside the mean cross entropy: 0.3 to 1 was best for 250 to 2,000
pictures with 9 % and with 40 % wrong human labels (CIFAR-10N, resnet18 at 96 pixels)."""
ITERATIONS: Final = 100
"""Of L-BFGS, at most; standardised features need 30 to 60."""
CHUNK_BYTES: Final = 16 * 1024 * 1024
"""Of features that are in memory at a time."""

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


def head_judge(
    features: Floats,
    labels: Sequence[int | None],
    *,
    classes: int,
    device: torch.device,
    penalty: float = PENALTY,
    chunk_bytes: int = CHUNK_BYTES,
) -> Judge:
    """Judge by heads on features [n, d], which may be a memory map; convex, so deterministic."""
    place = np.array([-1 if label is None else label for label in labels], dtype=np.int64)

    def judge(taught: Rows, judged: Rows) -> NDArray[np.floating]:
        size = max(1, chunk_bytes // features[:1].nbytes)
        mean, scale = _standard(features, taught, size)
        known = _Chunks(features, taught, mean, scale, device, size)
        target = torch.from_numpy(place[taught]).to(device)
        solve = fit_head if device.type == "cpu" else fit_held
        weight, bias = solve(known, target, classes=classes, penalty=penalty)
        unknown = _Chunks(features, judged, mean, scale, device, size)
        answers = [(part @ weight + bias).softmax(dim=1).cpu().numpy() for part in unknown]
        return np.concatenate(answers)

    return judge


def fit_head(
    known: Iterable[Tensor], labels: Tensor, *, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross entropy + penalty/2 |W|^2; returns W [d, classes] and b [classes].

    `known` are the features in chunks [m, d], read many times; together as many as `labels`. The
    bias is free, so a rare class is not pulled towards the others' share.
    """
    first = next(iter(known))
    weight = first.new_zeros(first.shape[1], classes, requires_grad=True)
    bias = first.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        total = penalty / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        done = 0
        for chunk in known:
            target = labels[done : done + len(chunk)]
            loss = functional.cross_entropy(chunk @ weight + bias, target, reduction="sum")
            loss = loss / len(labels)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + loss.detach()
            done += len(chunk)
        return total

    solver.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def fit_held(
    known: Iterable[Tensor], labels: Tensor, *, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Do what `fit_head` does with all features on the device, where they travel once.

    Where they do not fit there, they are read as often as on a CPU.
    """
    with suppress(torch.OutOfMemoryError):
        return fit_head(list(known), labels, classes=classes, penalty=penalty)
    # Not in the handler of the error, where they are held.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    log.warning("the features of %d pictures do not fit on the device: read anew", len(labels))
    return fit_head(known, labels, classes=classes, penalty=penalty)


@dataclass(frozen=True)
class _Chunks:
    """Some rows of the features, standardised, in their order; can be read again and again."""

    features: Floats
    rows: Rows
    mean: Floats
    scale: Floats
    device: torch.device
    size: int
    """Rows of a chunk."""

    def __iter__(self) -> Iterator[Tensor]:
        for part in _parts(self.features, self.rows, self.size):
            yield torch.from_numpy((part - self.mean) / self.scale).to(self.device)


def _parts(features: Floats, rows: Rows, size: int) -> Iterator[Floats]:
    for start in range(0, len(rows), size):
        yield features[rows[start : start + size]]


def _standard(features: Floats, rows: Rows, size: int) -> tuple[Floats, Floats]:
    """Return mean and standard deviation [d] of some rows, added up in float64."""
    total = sum(part.sum(axis=0, dtype=np.float64) for part in _parts(features, rows, size))
    mean = total / len(rows)
    squares = sum(np.square(part - mean).sum(axis=0) for part in _parts(features, rows, size))
    spread = np.sqrt(squares / len(rows))
    # A feature that never varies says nothing; dividing by 1 leaves it at 0.
    spread[spread < 1e-6] = 1
    return mean.astype(np.float32), spread.astype(np.float32)
