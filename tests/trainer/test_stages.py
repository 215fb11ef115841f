"""What a fit stage has of its own: size, batch, dropout, decay, and which layers learn."""

from pathlib import Path
from statistics import stdev

import pytest
import torch
from torch import nn

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import SIDE_ON, CacheStage, FitStage
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.test_fit import fitted, same_weights, small_run
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.cache import open_pixels
from trainer.data import labelled, load_items
from trainer.errors import InputError
from trainer.evaluate import log_softmax, logits
from trainer.fit import fit, fit_rows
from trainer.model import Classifier, build_classifier, freeze_to
from trainer.step import train_step

GROWING = recipe(
    CacheStage(presize=40),
    FitStage(name="small", epochs=1, lr=1e-3, frozen_to=-1, size=16, dropout=0.2, batch_size=4),
    FitStage(name="large", epochs=1, lr=1e-3, weight_decay=0.1),
    augment=SIDE_ON,
    dropout=0.5,
    batch_size=6,
)


class Watched(Classifier):
    """Notes what it is called with, and how much its head drops, while it trains."""

    @classmethod
    def over(cls, model: Classifier) -> "Watched":
        model.__class__ = cls
        watched = model
        assert isinstance(watched, Watched)
        watched.seen = []
        return watched

    seen: list[tuple[int, int, float]]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.training:
            last = [part for part in self.head.modules() if isinstance(part, nn.Dropout)][-1]
            self.seen.append((pixels.shape[0], pixels.shape[-1], last.p))
        return super().forward(pixels)


def test_each_stage_trains_at_its_size_batch_and_dropout(tmp_path: Path) -> None:
    run = small_run(tmp_path, GROWING)
    model = Watched.over(model_of(run))
    fit(run, model, None)
    assert model.seen == [(4, 16, 0.2)] * 3 + [(6, 32, 0.5)] * 2
    assert run.presized.spec.size == 40


def test_whole_models_of_other_rows_follow_the_same_stages(tmp_path: Path) -> None:
    run = small_run(tmp_path, GROWING)
    rows, labels = labelled(run.items, "train")
    model = Watched.over(model_of(run))
    fit_rows(model, recipe=GROWING, presized=run.presized, rows=rows[:8], labels=labels[:8], seed=1)
    assert model.seen == [(4, 16, 0.2)] * 2 + [(4, 32, 0.5)] * 2


def test_a_stage_is_validated_at_its_own_size(tmp_path: Path) -> None:
    run = small_run(tmp_path, GROWING)
    first = run.spec.recipe.model_copy(update={"stages": GROWING.stages[:2]})
    spec = run.spec.model_copy(update={"recipe": first})
    half = open_run(FolderStore(tmp_path / "store"), spec, folder=tmp_path / "cache")
    model, state = fitted(half)
    rows, labels = labelled(half.items, "valid")
    answers = logits(
        model,
        half.evaluation.at(16),
        rows,
        device=half.device,
        preprocess=Preprocess(size=16),
        batch_size=4,
    )
    losses = -log_softmax(answers)[range(len(labels)), labels]
    assert state.epochs[0].valid_loss == pytest.approx(losses.mean())
    side = 1.96 * stdev(losses) / len(losses) ** 0.5
    ends = (max(0.0, losses.mean() - side), losses.mean() + side)
    found = (state.epochs[0].valid_loss_low, state.epochs[0].valid_loss_high)
    assert found == pytest.approx(ends, rel=1e-3)
    assert (half.evaluation.at(16).gather([0]).shape, half.evaluation.spec.size) == (
        (1, 16, 16, 3),
        32,
    )


def test_a_run_of_two_sizes_goes_on_with_equal_bits(tmp_path: Path) -> None:
    straight, _ = fitted(small_run(tmp_path, GROWING, job="job-2"))
    run = small_run(tmp_path, GROWING)
    first = run.spec.recipe.model_copy(update={"stages": GROWING.stages[:2]})
    begun = model_of(run)
    one_stage = open_run(
        FolderStore(tmp_path / "store"),
        run.spec.model_copy(update={"recipe": first}),
        folder=tmp_path / "cache",
    )
    state = fit(one_stage, begun, None)
    run.checkpoints.save(begun, torch.optim.AdamW(begun.parameters()), state)
    resumed, _ = fitted(run)
    assert same_weights(resumed, straight)


def test_frozen_layers_have_no_gradient_at_all() -> None:
    model = build_classifier(recipe(), 3, None)
    stage = whole(1, frozen_to=1)
    freeze_to(model, stage.frozen_to)
    model.train()
    train_step(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        pictures=torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8).numpy(),
        labels=torch.tensor([0, 1, 2, 0]).numpy(),
        recipe=recipe(),
        stage=stage,
        seed=1,
        step=1,
    )
    first, *learning = model.layer_groups()
    assert all(p.grad is None for module in first for p in module.parameters())
    for group in learning:
        sums = [p.grad.abs().sum() for m in group for p in m.parameters() if p.grad is not None]
        assert sum(sums) > 0


def test_a_cache_below_the_largest_stage_is_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, pictures(train=2, valid=1), recipe=GROWING)
    with pytest.raises(InputError, match="cannot give crops of 48"):
        open_pixels(
            store,
            load_items(store, spec),
            evaluation=Preprocess(size=32),
            presize=40,
            folder=tmp_path / "cache",
            report=lambda *_: None,
            sizes=[48],
        )
