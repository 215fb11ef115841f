"""Every image judged by a model that never saw its label, nor that of a near duplicate.

With pretrained weights the models are linear heads (heads.py) on features of the body as it was
before the run, since the run's own body was trained on the labels that are to be judged. Without
them they are whole models.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data import Item
from trainer.errors import InputError

Rows = NDArray[np.int64]
Judge = Callable[[Rows, Rows], NDArray[np.floating]]
"""Told the rows to learn from and the rows to judge; answers probabilities [judged, classes]."""
Report = Callable[[int, int], None]
"""Told (models done, models in all)."""


class Part(NamedTuple):
    """What one model learns from and what it judges: never the same images."""

    taught: Rows
    judged: Rows

    @property
    def teaches(self) -> bool:
        """Whether anything is learnt from outside: not where all labels, or all but one, are in."""
        return len(self.taught) > 1


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


def dealt(
    items: Sequence[Item], *, folds: int, tests: bool = True, turns: tuple[int, int] = (0, 1)
) -> list[Part]:
    """Return the parts for which `out_of_fold` asks a judge of one of the processes.

    `tests`: whether a model judges the test images too.
    """
    return [part for part in _dealt(items, folds, tests=tests, turns=turns) if part.teaches]


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
    if own is not None:
        is_test = np.array([item.split == "test" for item in items])
        judged[is_test] = own[is_test]
    todo = _dealt(items, folds, tests=own is None, turns=turns)
    for done, part in enumerate(todo, start=1):
        if part.teaches:
            judged[part.judged] = judge(part.taught, part.judged)
        else:
            judged[part.judged] = 1 / classes
        if report is not None:
            report(done, len(todo))
    return judged


def _dealt(items: Sequence[Item], folds: int, *, tests: bool, turns: tuple[int, int]) -> list[Part]:
    is_test = np.array([item.split == "test" for item in items])
    number, count = turns
    todo = [part for part in parts(items, folds) if tests or not is_test[part.judged].any()]
    return todo[number::count]


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
