"""Rates over the steps of a stage and over the layer groups: pure functions of numbers."""

import math
from typing import Final, NamedTuple

from bearloop.contract.recipes import CosineRestarts, Flat, OneCycle, Schedule

HIGH_MOMENTUM: Final = 0.95
LOW_MOMENTUM: Final = 0.85
FLAT_MOMENTUM: Final = 0.9


class Rate(NamedTuple):
    """What one optimiser step is taken with."""

    lr: float
    momentum: float


def rate_at(step: int, steps: int, *, schedule: Schedule, lr: float, epochs: int = 1) -> Rate:
    """Return the rate of step `step` (from 0) of the `steps` in `epochs`; `lr` is the highest."""
    if isinstance(schedule, Flat):
        return Rate(lr, FLAT_MOMENTUM)
    if isinstance(schedule, CosineRestarts):
        return cosine_restarts(step, steps // epochs, schedule=schedule, lr=lr)
    return one_cycle(step, steps, schedule=schedule, lr=lr)


def one_cycle(step: int, steps: int, *, schedule: OneCycle, lr: float) -> Rate:
    """Return fastai's one-cycle rate: cosine from lr/div up to lr, then down to lr/div_final.

    Momentum runs against it, .95 to .85 and back. Source: fastai `fit_one_cycle`, which is at
    position step/steps before each batch, and so never quite reaches the end.
    """
    position = step / steps
    if position < schedule.pct_start:
        part = position / schedule.pct_start
        return Rate(
            _cosine(lr / schedule.div, lr, part), _cosine(HIGH_MOMENTUM, LOW_MOMENTUM, part)
        )
    part = (position - schedule.pct_start) / (1 - schedule.pct_start)
    return Rate(
        _cosine(lr, lr / schedule.div_final, part), _cosine(LOW_MOMENTUM, HIGH_MOMENTUM, part)
    )


def cosine_restarts(step: int, per_epoch: int, *, schedule: CosineRestarts, lr: float) -> Rate:
    """Return SGDR's rate: from lr by a cosine to 0 in each cycle; momentum stays as it is.

    Source: Loshchilov and Hutter 2017, equation 5, with a least rate of 0. The step after a
    cycle's last one, where the rate would be 0, is the first of the next cycle.
    """
    begun, length = 0, schedule.cycle_len * per_epoch
    while step >= begun + length:
        begun, length = begun + length, length * schedule.cycle_mult
    return Rate(_cosine(lr, 0.0, (step - begun) / length), FLAT_MOMENTUM)


def group_rates(groups: int, *, lr: float, lr_body: float | None) -> list[float]:
    """Return the highest rate of each layer group, evenly spaced in the logarithm, body first."""
    if lr_body is None or groups == 1:
        return [lr] * groups
    ratio = lr / lr_body
    return [lr_body * ratio ** (group / (groups - 1)) for group in range(groups)]


def _cosine(start: float, end: float, part: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * part)) / 2
