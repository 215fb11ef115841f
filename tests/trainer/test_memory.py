"""Batches in parts: on request, or since memory is short, and always for the same step."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bearloop.contract.jobs import Progress, progress_key
from bearloop.contract.recipes import SIDE_ON, CacheStage, Recipe
from bearloop.contract.runs import RunSpec
from bearloop.store import FolderStore
from tests.trainer.plain import Plain
from tests.trainer.runs import model_of, open_run
from tests.trainer.short import Room, Short
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.checkpoint import FitState
from trainer.data import labelled
from trainer.errors import InputError
from trainer.fit import fit
from trainer.memory import HalvedTogetherError, Memory
from trainer.objective import draw_mix
from trainer.optimiser import new_optimiser
from trainer.ranks import Ranks, alone
from trainer.run import Run
from trainer.step import Lesson, Means, Place, Share, train_epoch, train_step
from trainer.views import Views

LARGE = recipe(CacheStage(presize=40), whole(1), augment=SIDE_ON, batch_size=8)
PARTS = LARGE.model_copy(update={"batch_size": 4, "accumulate": 2})
ONE_BATCH = {
    "pictures": np.random.default_rng(1).integers(0, 256, (9, 40, 40, 3)).astype(np.uint8),
    "labels": np.arange(9) % 3,
    "seed": 1,
    "step": 5,
}


def small_run(tmp_path: Path, wanted: Recipe, *, job: str = "job-1") -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, pictures(train=4, valid=1), recipe=wanted, job=job)
    return open_run(store, spec, folder=tmp_path / "cache")


def taught(run: Run, model: Any, spec: RunSpec | None = None) -> list[float]:
    """Train one epoch; returns the losses."""
    recipe, stage = (spec or run.spec).recipe, whole(1)
    rows, labels = labelled(run.items, "train")
    lesson = Lesson(recipe, stage, run.presized, rows, labels, run.spec.seed)
    place = Place(0, 0, batch=0, steps=0)
    optimiser = new_optimiser(model, stage)
    return [s.point.loss for s in train_epoch(model, optimiser, lesson=lesson, place=place)]


def gradients(model: nn.Module, wanted: Recipe, **changes: Any) -> list[torch.Tensor]:
    """Take one step with a rate of zero on one batch."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    stage = whole(1, mixup=0.4)
    train_step(model, optimiser, recipe=wanted, stage=stage, **{**ONE_BATCH, **changes})
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


class TestAccumulation:
    def test_a_step_is_that_of_the_batch_so_many_times_as_large(self) -> None:
        large = gradients(Plain(), LARGE)
        for size in (5, 3, 2):
            parts = gradients(Plain(), LARGE.model_copy(update={"batch_size": size}))
            torch.testing.assert_close(parts, large, rtol=1e-4, atol=1e-7)

    def test_an_epoch_of_them_is_that_of_large_batches(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, LARGE)
        large, parts, smaller = Plain(), Plain(), Plain()
        expected = taught(run, large)
        found = taught(run, parts, run.spec.model_copy(update={"recipe": PARTS}))
        assert found == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(parts.state_dict(), large.state_dict(), rtol=1e-4, atol=1e-6)
        without = PARTS.model_copy(update={"accumulate": 1})
        assert len(taught(run, smaller, run.spec.model_copy(update={"recipe": without}))) == 3


class TestShortage:
    def test_the_same_step_is_taken_in_halves_and_the_run_says_so(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, LARGE)
        model = model_of(run)
        short = Short(model, holds=4)
        state = fit(run, model, None)
        # The first batch of six fails once, from then on all are halved.
        assert short.tried == [6, 3, 3, 3, 3]
        (note,) = state.notes
        assert "out of memory at step 1 with 6 pictures" in note
        assert "2 parts" in note
        progress = run.mailbox.store.get(progress_key("job-1", "first"))
        assert Progress.model_validate_json(progress).message == note

        asked = small_run(tmp_path, PARTS, job="job-2")
        other = model_of(asked)
        expected = fit(asked, other, None)
        assert state.steps == expected.steps
        found, wanted = model.state_dict(), other.state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)

        kept = run.checkpoints.newest()
        assert kept is not None
        assert (kept.state.halvings, kept.state.notes) == (1, [note])

    @pytest.mark.parametrize("asked", [1, 3])
    def test_the_pictures_of_a_step_are_made_a_part_at_a_time(self, asked: int) -> None:
        expected = gradients(Plain(), LARGE)
        accumulated = LARGE.model_copy(update={"batch_size": 9 // asked, "accumulate": asked})
        memory = Memory()
        # Three presized pictures of 40 x 40 in fp32, where a step has nine.
        with Room(3 * 40 * 40 * 3 * 4):
            means = Means.of(LARGE, alone().device, memory)
            found = gradients(Plain(), accumulated, means=means)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
        assert memory.halvings == (2 if asked == 1 else 0)

    @pytest.mark.parametrize("kind", ["pixels", "activations"])
    @pytest.mark.parametrize("mixup", [0.0, 0.4])
    def test_parts_are_the_same_pictures_to_the_bit(self, kind: str, mixup: float) -> None:
        pictures: Any = ONE_BATCH["pictures"]
        if kind == "activations":
            pictures = pictures[:, 0, :, 0].astype(np.float32)
        stage, device = whole(1, mixup=mixup), torch.device("cpu")
        mix = draw_mix(9, stage=stage, seed=1, device=device)
        views = Views.of(pictures, LARGE, seed=1, mix=mix, device=device)
        parts = [views.part(part) for part in (slice(0, 4), slice(4, 6), slice(6, 9))]
        assert torch.equal(torch.cat(parts), views.part(slice(0, 9)))

    def test_what_was_halved_stays_so_when_the_run_goes_on(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, LARGE.model_copy(update={"stages": (LARGE.stages[0], whole(2))}))
        model = model_of(run)
        run.checkpoints.save(model, None, FitState(halvings=1, notes=["halved before"]))
        short = Short(model, holds=4)
        state = fit(run, model, run.checkpoints.newest())
        assert max(short.tried) == 3
        assert (state.halvings, state.notes) == (1, ["halved before"])
        progress = run.mailbox.store.get(progress_key("job-1", "first"))
        assert Progress.model_validate_json(progress).message == "halved before"

    def test_a_picture_that_fits_in_no_number_ends_the_run(self) -> None:
        def never(_: int) -> float:
            raise torch.OutOfMemoryError

        memory = Memory()
        with pytest.raises(InputError, match="not even 2 pictures") as refused:
            memory.within(Plain(), never, pictures=8, batch=8, step=3)
        assert refused.value.problem.code == "out_of_memory"
        assert "smaller pictures" in (refused.value.problem.way_out or "")

    def test_an_optimiser_whose_state_does_not_fit_ends_the_run(self) -> None:
        class Large(torch.optim.SGD):
            def step(self, *_: Any, **__: Any) -> None:
                raise torch.OutOfMemoryError

        model, memory = Plain(), Memory()
        means = Means.of(LARGE, alone().device, memory)
        optimiser = Large(model.parameters(), lr=0.1)
        with pytest.raises(InputError, match="its optimiser") as refused:
            train_step(
                model, optimiser, recipe=LARGE, stage=whole(1), means=means, **ONE_BATCH
            )  # fmt: skip
        assert refused.value.problem.code == "out_of_memory"
        assert "frozen_to" in (refused.value.problem.way_out or "")
        # Smaller parts would not have helped: no picture is there any more.
        assert memory.halvings == 0

    def test_processes_that_train_together_begin_anew_with_halves(self, tmp_path: Path) -> None:
        """One of them alone notices; the others stand in a step that it will not finish."""
        several = Ranks(torch.device("cpu"), number=1, count=2)
        run = replace(small_run(tmp_path, LARGE), ranks=several)
        state, model = FitState(), Plain()
        said: list[str] = []

        def say(step: int, sentence: str) -> None:
            state.halvings += 1
            said.append(f"{step}: {sentence}")

        def too_much(parts: int) -> float:
            raise torch.OutOfMemoryError

        memory = Memory(0, say=say, together=run.ranks.count > 1)
        with pytest.raises(HalvedTogetherError):
            memory.within(model, too_much, pictures=8, batch=8, step=3)
        assert state.halvings == memory.halvings == 1
        assert said[0].startswith("3: out of memory at step 3")

    def test_shares_that_differ_by_one_are_taken_in_equally_many_parts(self) -> None:
        shares = [Share(Ranks(torch.device("cpu"), n, 2), own, 7) for n, own in ((0, 4), (1, 3))]
        of_both = [share.of_a_batch(LARGE.model_copy(update={"batch_size": 7})) for share in shares]
        assert of_both == [4, 4]
        assert [Memory(1).parts(share.least, batch=4) for share in shares] == [1, 1]
        assert Memory(2).parts(9, batch=9) == 4
        assert Memory().parts(9, batch=9) == 1

    def test_a_step_of_fewer_pictures_is_cut_into_fewer_parts(self) -> None:
        assert [Memory().parts(count, batch=32) for count in (128, 100, 32, 5)] == [4, 4, 1, 1]
        assert [Memory(1).parts(count, batch=32) for count in (64, 17, 16)] == [4, 2, 1]

    def test_half_a_batch_is_less_than_the_step_that_did_not_fit(self) -> None:
        tried: list[int] = []

        def take(parts: int) -> float:
            tried.append(parts)
            if parts == 1:
                raise torch.OutOfMemoryError
            return 0.5

        said: list[str] = []
        memory = Memory(say=lambda _, sentence: said.append(sentence))
        assert memory.within(Plain(), take, pictures=6, batch=16, step=3) == 0.5
        assert (tried, memory.halvings, len(said)) == ([1, 2], 2, 1)


class TestPrecision:
    def test_fp16_scales_the_loss_and_not_the_step(self) -> None:
        half, full = LARGE.model_copy(update={"precision": "fp16"}), LARGE
        means = Means.of(half, alone().device)
        model, other = Plain(), Plain()
        scaled = gradients(model, half, means=means)
        assert means.scaler.get_scale() == 2**16
        plain = gradients(other, full)
        for found, expected in zip(scaled, plain, strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-4)

    def test_an_overflow_leaves_the_step_out_and_halves_the_scale(self) -> None:
        half = LARGE.model_copy(update={"precision": "fp16"})
        means = Means.of(half, alone().device)
        means.scaler.load_state_dict({**means.scaler.state_dict(), "scale": 2.0**120})
        model = Plain()
        before = [parameter.clone() for parameter in model.parameters()]
        optimiser = new_optimiser(model, whole(1))  # type: ignore[arg-type]
        train_step(model, optimiser, recipe=half, stage=whole(1), means=means, **ONE_BATCH)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert means.scaler.get_scale() == 2.0**119

    def test_a_checkpoint_keeps_the_scale(self, tmp_path: Path) -> None:
        half = LARGE.model_copy(update={"precision": "fp16", "model": "resnet18"})
        run = small_run(tmp_path, half)
        run.checkpoints.save(
            model_of(run), None, FitState(scale={"scale": 8.0, "_growth_tracker": 5})
        )
        state = fit(run, model_of(run), run.checkpoints.newest())
        assert state.scale == {"scale": 8.0, "_growth_tracker": 5 + len(state.steps)}
        assert all(math.isfinite(point.loss) for point in state.steps)

    def test_so_does_the_one_that_all_begin_anew_from(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, LARGE.model_copy(update={"precision": "fp16"}))
        model = model_of(run)

        def leave_at_the_second_step(*_: Any) -> None:
            if len(tried) == 1:
                raise HalvedTogetherError
            tried.append(1)

        tried: list[int] = []
        model.pool.register_forward_pre_hook(leave_at_the_second_step)
        begun = FitState(scale={"scale": 8.0, "_growth_tracker": 5})
        run.checkpoints.save(model, None, begun)
        with pytest.raises(HalvedTogetherError):
            fit(run, model, run.checkpoints.newest())
        kept = run.checkpoints.newest()
        assert kept is not None
        assert len(kept.state.steps) == 1
        assert kept.state.scale == {"scale": 8.0, "_growth_tracker": 6}
