"""Every image judged by a model that never saw its label, nor that of a near duplicate.

With pretrained weights the models are linear heads on features of the body as it was before the
run, since the run's own body was trained on the labels that are to be judged. Without them they
are whole models.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.data import Item
from trainer.errors import InputError

PENALTY: Final = 0.5
"""Weight of half the squared norm beside the mean cross entropy: 0.3 to 1 was best for 250 to 2,000
pictures with 9 % and with 40 % wrong human labels (CIFAR-10N, resnet18 at 96 pixels)."""
ITERATIONS: Final = 100
"""Of L-BFGS, at most; standardised features need 30 to 60."""
CHUNK: Final = 65_536
"""Rows whose logits are held at a time."""

Rows = NDArray[np.int64]
Judge = Callable[[Rows, Rows], NDArray[np.floating]]
"""Told the rows to learn from and the rows to judge; answers probabilities [judged, classes]."""
Report = Callable[[int, int], None]
"""Told (models done, models in all)."""


class Part(NamedTuple):
    """What one model learns from and what it judges: never the same images."""

    taught: Rows
    judged: Rows


def parts(items: Sequence[Item], folds: int) -> list[Part]:
    """Divide the images among `folds` models, and one more for the test split.

    Learnt are labelled train and valid images of the other folds. A conflict is judged, never
    learnt. Test images teach nothing and are judged by a model of all the others.
    """
    _check_groups(items)
    fold = np.array([item.fold % folds for item in items])
    is_test = np.array([item.split == "test" for item in items])
    teaches = ~is_test & np.array([item.label is not None for item in items])
    found = [
        Part(np.flatnonzero(teaches & (fold != j)), np.flatnonzero(~is_test & (fold == j)))
        for j in range(folds)
    ]
    found.append(Part(np.flatnonzero(teaches), np.flatnonzero(is_test)))
    return [part for part in found if len(part.judged)]


def out_of_fold(
    items: Sequence[Item],
    judge: Judge,
    *,
    classes: int,
    folds: int,
    own: NDArray[np.float32] | None = None,
    turns: tuple[int, int] = (0, 1),
    report: Report | None = None,
) -> NDArray[np.float32]:
    """Return probabilities [n, classes] of every item by a model that did not learn from it.

    `own` are the probabilities [n, classes] of a run that learnt from no test label, so they may
    judge the test images where a model more would cost as much as the run. None: one more judges.
    `turns` are (number, count) of processes that deal the models among them: what another one
    judges is NaN here.
    """
    judged = np.full((len(items), classes), np.nan, dtype=np.float32)
    todo = parts(items, folds)
    if own is not None:
        is_test = np.array([item.split == "test" for item in items])
        judged[is_test] = own[is_test]
        todo = [part for part in todo if not is_test[part.judged].any()]
    number, count = turns
    todo = todo[number::count]
    for done, part in enumerate(todo, start=1):
        if len(part.taught):
            judged[part.judged] = judge(part.taught, part.judged)
        else:
            # All labels lie in one fold: nothing is known about it from outside.
            judged[part.judged] = 1 / classes
        if report is not None:
            report(done, len(todo))
    return judged


def head_judge(
    activations: NDArray[np.float32],
    labels: Sequence[int | None],
    *,
    classes: int,
    device: torch.device,
    penalty: float = PENALTY,
) -> Judge:
    """Judge by multinomial logistic regression on features [n, d]: convex, so deterministic."""
    place = np.array([-1 if label is None else label for label in labels], dtype=np.int64)

    def judge(taught: Rows, judged: Rows) -> NDArray[np.floating]:
        mean, scale = _standard(activations[taught])
        known = torch.from_numpy((activations[taught] - mean) / scale).to(device)
        target = torch.from_numpy(place[taught]).to(device)
        weight, bias = fit_head(known, target, classes=classes, penalty=penalty)
        unknown = torch.from_numpy((activations[judged] - mean) / scale).to(device)
        answer: NDArray[np.float32] = (unknown @ weight + bias).softmax(dim=1).cpu().numpy()
        return answer

    return judge


def fit_head(
    known: Tensor, labels: Tensor, *, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross entropy + penalty/2 |W|^2; returns W [d, classes] and b [classes].

    The bias is free, so a rare class is not pulled towards the others' share.
    """
    weight = known.new_zeros(known.shape[1], classes, requires_grad=True)
    bias = known.new_zeros(classes, requires_grad=True)
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
        for chunk, target in zip(
            torch.split(known, CHUNK), torch.split(labels, CHUNK), strict=True
        ):
            loss = functional.cross_entropy(chunk @ weight + bias, target, reduction="sum")
            loss = loss / len(known)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + loss.detach()
        return total

    solver.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _check_groups(items: Sequence[Item]) -> None:
    folds: dict[str, int] = {}
    for item in items:
        if folds.setdefault(item.group, item.fold) != item.fold:
            raise InputError(
                "group_in_two_folds",
                f"the near duplicates of {item.group} lie in folds {folds[item.group]} and "
                f"{item.fold}",
                field="fold",
                value=str(item.fold),
                way_out="freeze the version again: folds must follow groups",
            )


def _standard(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    # A feature that never varies says nothing; dividing by 1 leaves it at 0.
    spread[spread < 1e-6] = 1
    return mean.astype(np.float32), spread.astype(np.float32)
