"""The fit stages: they learn, they repeat to the bit, and they go on where they were left."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    SIDE_ON,
    CacheStage,
    CosineRestarts,
    FitStage,
    OneCycle,
    Recipe,
)
from bearloop.contract.runs import Curves, StepPoint, measured_epochs
from bearloop.curves_file import CURVES_FILE
from bearloop.store import FolderStore
from tests.trainer.runs import CPU, model_of, open_run
from tests.trainer.versions import pictures, put_version, recipe, resnet, whole
from trainer.checkpoint import FitState
from trainer.data import labelled
from trainer.errors import InputError, InterruptedRunError
from trainer.evaluate import logits
from trainer.fit import fit, fit_rows
from trainer.interruption import Interruption
from trainer.model import Classifier, freeze_to
from trainer.optimiser import new_optimiser, set_rates
from trainer.order import batches, epoch_order
from trainer.ranks import alone
from trainer.run import Run
from trainer.schedule import rate_at

STAGED = recipe(
    CacheStage(presize=40),
    FitStage(name="frozen", epochs=1, lr=2e-3, frozen_to=-1, schedule=OneCycle(pct_start=0.9)),
    FitStage(name="whole", epochs=2, lr=1e-3, lr_body=1e-5),
    augment=SIDE_ON,
    dropout=0.5,
    batch_size=5,
)
"""All that is random is on: augmentation, dropout, order."""


class LeavesAfter(Interruption):
    """Asks the run to leave once it was looked at so many times."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        super().__init__()

    @property
    def requested(self) -> bool:
        self._looks -= 1
        return self._looks < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def small_run(
    tmp_path: Path,
    recipe: Recipe,
    *,
    train: int = 4,
    seed: int = 42,
    job: str = "job-1",
    interruption: Interruption | None = None,
    device: torch.device = CPU,
) -> Run:
    store = FolderStore(tmp_path / "store")
    rows = pictures(train=train, valid=2)
    spec = put_version(store, rows, recipe=recipe, seed=seed, job=job)
    folder, ranks = tmp_path / "cache", alone(device)
    return open_run(store, spec, folder=folder, interruption=interruption, ranks=ranks)


def same_weights(one: Classifier, other: Classifier) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def fitted(run: Run) -> tuple[Classifier, FitState]:
    model = model_of(run)
    return model, fit(run, model, run.checkpoints.newest())


def curve(state: FitState) -> list[StepPoint]:
    return state.steps


def assert_eight_are_learnt(
    tmp_path: Path, *, device: torch.device = CPU, **changes: object
) -> Classifier:
    """Train two classes of four pictures until none is wrong; returns the model."""
    store = FolderStore(tmp_path / "store")
    rows = pictures(train=4, valid=1, classes=2)
    learning = resnet(CacheStage(presize=32), whole(16), **changes)
    spec = put_version(store, rows, recipe=learning, names=("red", "green"))
    run = open_run(store, spec, folder=tmp_path / "cache", ranks=alone(device))
    model, state = fitted(run)
    train, labels = labelled(run.items, "train")
    answers = logits(
        model,
        run.evaluation,
        train,
        device=run.device,
        preprocess=Preprocess(size=32),
        batch_size=8,
    )
    assert len(train) == 8
    assert list(answers.argmax(axis=1)) == list(labels)
    assert state.steps[-1].loss < 0.1 < state.steps[0].loss
    return model


def test_eight_images_are_learnt_to_zero_error(tmp_path: Path) -> None:
    assert_eight_are_learnt(tmp_path)


def test_equal_seeds_give_equal_bits_and_others_do_not(tmp_path: Path) -> None:
    first, one = fitted(small_run(tmp_path, STAGED))
    second, other = fitted(small_run(tmp_path, STAGED, job="job-2"))
    third, _ = fitted(small_run(tmp_path, STAGED, job="job-3", seed=43))
    assert same_weights(first, second)
    assert curve(one) == curve(other)
    assert not same_weights(first, third)


def test_fp32_is_asked_for_of_a_gpu_too(tmp_path: Path) -> None:
    small_run(tmp_path, STAGED)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_two_stages_make_one_continuous_curve(tmp_path: Path) -> None:
    _, state = fitted(small_run(tmp_path, STAGED, train=3))
    assert [point.step for point in state.steps] == list(range(1, 7))
    assert [(point.stage, point.epoch) for point in state.epochs] == [
        ("frozen", 1), ("whole", 2), ("whole", 3),
    ]  # fmt: skip
    for epoch in range(3):
        first, second = (point.loss for point in state.steps[2 * epoch : 2 * epoch + 2])
        # Nine pictures in batches of five.
        mean = (5 * first + 4 * second) / 9
        assert state.epochs[epoch].train_loss == pytest.approx(mean)


def assert_it_goes_on(tmp_path: Path, *, looks: int, device: torch.device = CPU) -> None:
    """Let a run leave after so many looks and come back: it ends with equal bits."""
    straight, expected = fitted(small_run(tmp_path, STAGED, job="job-2", device=device))
    left = small_run(tmp_path, STAGED, interruption=LeavesAfter(looks), device=device)
    with pytest.raises(InterruptedRunError):
        fitted(left)
    back = small_run(tmp_path, STAGED, device=device)
    resumed = back.checkpoints.newest()
    assert resumed is not None
    assert 0 < len(resumed.state.steps) < 9 or len(resumed.state.epochs) < 3
    model, state = fitted(back)
    assert same_weights(model, straight)
    assert curve(state) == curve(expected)
    assert [p.model_dump(exclude={"seconds"}) for p in state.epochs] == [
        p.model_dump(exclude={"seconds"}) for p in expected.epochs
    ]


# Looks 1 to 3 are the first epoch's steps, 4 its validation batches, and so on.
@pytest.mark.parametrize("looks", [1, 3, 6, 9])
def test_a_run_that_left_and_came_back_ends_with_equal_bits(tmp_path: Path, looks: int) -> None:
    assert_it_goes_on(tmp_path, looks=looks)


def test_a_run_resumed_behind_its_last_epoch_trains_no_further(tmp_path: Path) -> None:
    run = small_run(tmp_path, STAGED)
    trained, expected = fitted(run)
    again, state = fitted(run)
    assert same_weights(trained, again)
    assert state == expected


def test_frozen_groups_keep_every_bit_through_a_stage(tmp_path: Path) -> None:
    frozen = recipe(CacheStage(presize=32), whole(1, frozen_to=-1))
    run = small_run(tmp_path, frozen)
    before, (after, _) = model_of(run), fitted(run)
    changed = {
        k for k, v in after.state_dict().items() if not torch.equal(v, before.state_dict()[k])
    }
    assert changed
    assert all(key.startswith("head.") for key in changed)


@pytest.mark.parametrize("looks", [None, 5])
def test_every_step_has_its_place_in_its_stage_s_schedule(
    tmp_path: Path, looks: int | None
) -> None:
    falling, restarting = OneCycle(pct_start=0.4), CosineRestarts(cycle_mult=2)
    stages = (whole(2, schedule=falling), whole(3, name="again", lr=0.02, schedule=restarting))
    wanted = recipe(CacheStage(presize=32), *stages, batch_size=5, oversample=True)
    run = small_run(tmp_path, wanted)
    if looks is not None:
        with pytest.raises(InterruptedRunError):
            fitted(small_run(tmp_path, wanted, interruption=LeavesAfter(looks)))
    _, state = fitted(run)
    # Three steps an epoch.
    expected = [
        rate_at(step, 3 * stage.epochs, schedule=stage.schedule, lr=stage.rate, epochs=stage.epochs)
        for stage in stages
        for step in range(3 * stage.epochs)
    ]
    assert [(point.lr, point.momentum) for point in state.steps] == expected


def test_each_layer_group_has_its_own_rate(tmp_path: Path) -> None:
    run = small_run(tmp_path, STAGED)
    model, stage = model_of(run), STAGED.stages[2]
    assert isinstance(stage, FitStage)
    freeze_to(model, 1)
    optimiser = new_optimiser(model, stage)
    head = set_rates(optimiser, stage, groups=3, step=25, steps=100)
    assert head == pytest.approx((1e-3, 0.85))
    rates = {group["place"]: group["lr"] for group in optimiser.param_groups}
    assert rates == pytest.approx({1: 1e-4, 2: 1e-3})
    decays = [g["weight_decay"] for g in optimiser.param_groups if g["params"][0].ndim == 1]
    assert decays == [0.0, 0.0]


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path: Path) -> None:
    wild = recipe(CacheStage(presize=32), whole(50, lr=1e30))
    run = small_run(tmp_path, wild)
    with pytest.raises(InputError, match=r"at step \d+") as caught:
        fitted(run)
    problem = caught.value.problem
    assert (problem.code, problem.field) == ("loss_not_finite", "recipe.stages.lr")
    assert "lower the rate" in (problem.way_out or "")
    left = Curves.model_validate_json(run.mailbox.store.get(run.mailbox.prefix + CURVES_FILE))
    assert left.steps
    assert f"at step {len(left.steps) + 1} " in problem.detail


def test_bf16_training_learns_too(tmp_path: Path) -> None:
    # Every step takes the same twelve pictures, so that its loss falls whatever rounds it.
    half = recipe(CacheStage(presize=32), whole(6), precision="bf16", batch_size=12)
    model, state = fitted(small_run(tmp_path, half))
    assert all(math.isfinite(point.loss) for point in state.steps)
    assert state.epochs[-1].train_loss < state.epochs[0].train_loss
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_the_batches_of_an_epoch_are_as_equal_as_can_be(tmp_path: Path) -> None:
    # 12 pictures in batches of 11: BatchNorm could not train on the one that would be left.
    _, state = fitted(small_run(tmp_path, recipe(CacheStage(presize=32), whole(1), batch_size=11)))
    assert len(state.steps) == 2
    for count, size in ((12, 11), (12, 5), (296, 32), (3, 2), (1, 8), (64, 32)):
        parts = batches(np.arange(count), size)
        assert list(np.concatenate(parts)) == list(range(count))
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1
        # Pictures are never alone where there are others, not even for a batch of at most two.
        assert max(lengths) <= size or (count, size) == (3, 2)
        assert min(lengths) > 1 or count == 1


def test_epochs_of_unequal_length_end_at_their_own_steps(tmp_path: Path) -> None:
    # 12 pictures: 3 steps an epoch, then 2.
    stages = (whole(1), whole(2, name="large", batch_size=6))
    unequal = recipe(CacheStage(presize=32), *stages, batch_size=5)
    _, state = fitted(small_run(tmp_path, unequal))
    assert [point.end for point in measured_epochs(state.curves())] == [3, 5, 7]
    older = [point.model_copy(update={"step": None}) for point in state.epochs]
    before = state.curves().model_copy(update={"epochs": tuple(older)})
    assert [round(point.end, 1) for point in measured_epochs(before)] == [2.3, 4.7, 7]


def test_some_rows_are_trained_like_a_run_of_their_own(tmp_path: Path) -> None:
    run = small_run(tmp_path, STAGED)
    expected, _ = fitted(run)
    model = model_of(run)
    rows, labels = labelled(run.items, "train")
    fit_rows(model, recipe=STAGED, presized=run.presized, rows=rows, labels=labels, seed=42)
    assert same_weights(model, expected)


class TestOrder:
    labels = np.array([0] * 10 + [1] * 3 + [2] * 4)

    def test_every_picture_comes_once_and_each_epoch_differs(self) -> None:
        first = epoch_order(self.labels, seed=1, epoch=0, oversample=False)
        assert sorted(first) == list(range(17))
        second = epoch_order(self.labels, seed=1, epoch=1, oversample=False)
        assert list(first) != list(second)
        again = epoch_order(self.labels, seed=1, epoch=0, oversample=False)
        assert list(first) == list(again)

    def test_oversampling_draws_each_class_as_often_as_the_commonest(self) -> None:
        order = epoch_order(self.labels, seed=1, epoch=0, oversample=True)
        assert list(np.bincount(self.labels[order])) == [10, 10, 10]
        counts = np.bincount(order)
        assert set(counts[10:13]) <= {3, 4}
        assert set(counts[13:]) <= {2, 3}
