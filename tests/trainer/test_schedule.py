"""One-cycle and cosine restarts against torch's, and the rates of layer groups."""

import math

import pytest
import torch

from bearloop.contract.recipes import CosineRestarts, FitStage, Flat, OneCycle
from tests.trainer.versions import recipe
from trainer.model import build_classifier
from trainer.optimiser import new_optimiser, set_rates
from trainer.schedule import group_rates, one_cycle, rate_at


@pytest.mark.parametrize(("steps", "pct_start"), [(10, 0.25), (57, 0.3), (400, 0.99)])
def test_one_cycle_equals_torchs_reference(steps: int, pct_start: float) -> None:
    schedule = OneCycle(pct_start=pct_start)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=0.9)
    # torch reaches the end at its last step, fastai one step after it: one step more, and the
    # peak moved to the same step, makes the two equal.
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=0.02,
        total_steps=steps + 1,
        pct_start=(pct_start * steps + 1) / (steps + 1),
        div_factor=schedule.div,
        final_div_factor=schedule.div_final / schedule.div,
    )
    for step in range(steps):
        group = optimiser.param_groups[0]
        ours = one_cycle(step, steps, schedule=schedule, lr=0.02)
        assert ours.lr == pytest.approx(group["lr"], rel=1e-6)
        assert ours.momentum == pytest.approx(group["momentum"], rel=1e-6)
        optimiser.step()
        reference.step()


def test_one_cycle_begins_at_lr_over_div_and_peaks_at_lr() -> None:
    schedule = OneCycle(pct_start=0.25, div=25)
    first = one_cycle(0, 100, schedule=schedule, lr=1e-3)
    peak = one_cycle(25, 100, schedule=schedule, lr=1e-3)
    assert first == pytest.approx((1e-3 / 25, 0.95))
    assert peak == pytest.approx((1e-3, 0.85))


def test_a_flat_schedule_keeps_its_rate() -> None:
    assert {rate_at(step, 9, schedule=Flat(), lr=0.1) for step in range(9)} == {(0.1, 0.9)}


@pytest.mark.parametrize(("cycle_len", "cycle_mult", "epochs"), [(1, 2, 7), (2, 1, 6), (1, 3, 4)])
def test_cosine_restarts_equal_torchs_reference(
    cycle_len: int, cycle_mult: int, epochs: int
) -> None:
    schedule = CosineRestarts(cycle_len=cycle_len, cycle_mult=cycle_mult)
    per_epoch = 13
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimiser, T_0=cycle_len * per_epoch, T_mult=cycle_mult
    )
    steps = epochs * per_epoch
    for step in range(steps):
        ours = rate_at(step, steps, schedule=schedule, lr=0.02, epochs=epochs)
        assert ours.lr == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        assert ours.momentum == 0.9
        optimiser.step()
        reference.step()


def test_each_layer_group_restarts_at_its_own_rate() -> None:
    stage = FitStage(
        name="sgdr", epochs=7, lr=1e-2, lr_body=1e-4, schedule=CosineRestarts(cycle_mult=2)
    )
    model = build_classifier(recipe(), 3, None)
    optimiser = new_optimiser(model, stage)
    assert isinstance(stage.schedule, CosineRestarts)
    assert stage.schedule.ends(7) == (1, 3, 7)
    for step in (0, 10, 30):  # ten steps an epoch: the first step of each cycle
        head = set_rates(optimiser, stage, groups=3, step=step, steps=70)
        rates = {group["place"]: group["lr"] for group in optimiser.param_groups}
        assert head == (1e-2, 0.9)
        assert rates == pytest.approx({0: 1e-4, 1: 1e-3, 2: 1e-2})
    last = set_rates(optimiser, stage, groups=3, step=69, steps=70)
    assert last.lr == pytest.approx(1e-2 * (1 + math.cos(math.pi * 39 / 40)) / 2)


@pytest.mark.parametrize(("epochs", "near"), [(5, "after 3 or 7"), (8, "after 7 or 15")])
def test_a_stage_must_end_with_a_cycle(epochs: int, near: str) -> None:
    with pytest.raises(ValueError, match=near):
        FitStage(name="sgdr", epochs=epochs, lr=1e-2, schedule=CosineRestarts(cycle_mult=2))
    with pytest.raises(ValueError, match="one after 3 "):
        FitStage(name="sgdr", epochs=1, lr=1e-2, schedule=CosineRestarts(cycle_len=3))


def test_group_rates_are_evenly_spaced_in_the_logarithm() -> None:
    assert group_rates(3, lr=1e-3, lr_body=1e-5) == pytest.approx([1e-5, 1e-4, 1e-3])
    assert math.isclose(group_rates(2, lr=1e-3, lr_body=1e-5)[0], 1e-5)


def test_without_a_rate_of_the_body_all_groups_share_one() -> None:
    assert group_rates(3, lr=1e-3, lr_body=None) == [1e-3] * 3
