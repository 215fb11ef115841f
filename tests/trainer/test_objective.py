"""What a step minimises: means over pictures, smoothed, weighed by class, mixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from bearloop.contract.recipes import CacheStage, FitStage
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.data import labelled
from trainer.fit import fit_stages
from trainer.objective import Mix, class_weights, draw_mix, target_of
from trainer.optimiser import new_optimiser
from trainer.run import Run
from trainer.step import Lesson, Place, Step, train_epoch

CPU = torch.device("cpu")
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 1, 1, 0])


def test_without_options_it_is_torch_s_cross_entropy_to_the_bit() -> None:
    target = target_of(LABELS, stage=whole(1), weights=None, mix=None)
    assert torch.equal(target.loss(LOGITS), functional.cross_entropy(LOGITS, LABELS))
    smooth = target_of(LABELS, stage=whole(1, label_smoothing=0.1), weights=None, mix=None)
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert torch.equal(smooth.loss(LOGITS), expected)
    assert not torch.equal(smooth.loss(LOGITS), target.loss(LOGITS))


def test_balanced_weights_give_each_class_one_say_and_pictures_one_on_average() -> None:
    labels = np.array([0] * 8 + [1] * 2 + [3] * 2)
    assert class_weights(labels, recipe()) is None
    weights = class_weights(labels, recipe(class_weights="balanced"))
    assert weights is not None
    assert weights[labels].mean() == pytest.approx(1)
    says = [weights[labels[labels == label]].sum() for label in (0, 1, 3)]
    assert says == pytest.approx([4, 4, 4])


def test_weights_weigh_each_picture_s_loss() -> None:
    weights = np.array([0.5, 1, 3], dtype=np.float32)
    target = target_of(LABELS, stage=whole(1), weights=weights, mix=None)
    losses = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (losses * torch.tensor([0.5, 1, 3, 1, 1, 0.5])).mean()
    torch.testing.assert_close(target.loss(LOGITS), expected)


def test_a_mix_blends_pictures_and_their_losses_alike() -> None:
    mix = Mix(torch.tensor([1.0, 0.75, 0.5]), torch.tensor([1, 2, 0]))
    pixels = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 2, 2).clone()
    mixed = mix.mixed(pixels, pixels[mix.partner], slice(0, 3))
    assert mixed[:, 0, 0, 0].tolist() == [0.0, 1.25, 1.0]
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    labels, logits = LABELS[:3], LOGITS[:3]
    target = target_of(labels, stage=whole(1, mixup=0.4), weights=None, mix=mix)
    own = functional.cross_entropy(logits, labels, reduction="none")
    other = functional.cross_entropy(logits, labels[mix.partner], reduction="none")
    expected = (mix.share * own + (1 - mix.share) * other).mean()
    torch.testing.assert_close(target.loss(logits), expected)


def test_a_mix_is_drawn_from_the_seed_for_each_picture() -> None:
    assert draw_mix(8, stage=whole(1), seed=7, device=CPU) is None
    first, again, other = (
        draw_mix(500, stage=whole(1, mixup=0.4), seed=seed, device=CPU) for seed in (7, 7, 8)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.share, again.share)
    assert torch.equal(first.partner, again.partner)
    assert not torch.equal(first.share, other.share)
    assert sorted(first.partner.tolist()) == list(range(500))
    assert 0.5 <= float(first.share.min()) < 0.6 < 0.99 < float(first.share.max()) <= 1
    # E max(l, 1 - l) of Beta(.4, .4) is .846.
    assert float(first.share.mean()) == pytest.approx(0.846, abs=0.02)


def test_the_parts_of_a_batch_add_up_to_it() -> None:
    mix = draw_mix(6, stage=whole(1, mixup=1.0), seed=1, device=CPU)
    weights = np.array([0.5, 1, 3], dtype=np.float32)
    target = target_of(
        LABELS, stage=whole(1, mixup=1.0, label_smoothing=0.1), weights=weights, mix=mix
    )
    parts = [slice(0, 4), slice(4, 6)]
    total = sum(target.part(part).loss(LOGITS[part]) * len(LABELS[part]) / 6 for part in parts)
    torch.testing.assert_close(total, target.loss(LOGITS))


def first_epoch(run: Run) -> list[Step]:
    """Each step of the run's first epoch."""
    model, stage = model_of(run), fit_stages(run.spec.recipe)[0]
    rows, labels = labelled(run.items, "train")
    lesson = Lesson(run.spec.recipe, stage, run.presized, rows, labels, run.spec.seed)
    place = Place(0, 0, batch=0, steps=0)
    optimiser = new_optimiser(model, stage)
    return list(train_epoch(model, optimiser, lesson=lesson, place=place))


def test_each_option_changes_what_a_run_learns(tmp_path: Path) -> None:
    # Of one class two of four pictures are missing, so that evening it out is a difference.
    rows = [row for n, row in enumerate(pictures(train=4, valid=1)) if n not in (0, 1)]
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, rows, recipe=recipe(CacheStage(presize=32), whole(1)))
    plain = open_run(store, spec, folder=tmp_path / "cache")

    def under(stage: FitStage, **changes: object) -> list[Step]:
        wanted = recipe(CacheStage(presize=32), stage, **changes)
        return first_epoch(replace(plain, spec=spec.model_copy(update={"recipe": wanted})))

    expected = under(whole(1))
    assert under(whole(1)) == expected
    even = under(whole(1), oversample=True)
    assert [sum(step.pictures for step in steps) for steps in (expected, even)] == [10, 12]
    for different in (
        even,
        under(whole(1), class_weights="balanced"),
        under(whole(1, mixup=0.4)),
        under(whole(1, label_smoothing=0.2)),
    ):
        assert different[0].point.loss != expected[0].point.loss
