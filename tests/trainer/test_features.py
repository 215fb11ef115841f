"""Precompute: one pass of the frozen body, and a head that learns from what came out."""

import inspect
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import trainer.augment
import trainer.families
import trainer.features
import trainer.model
from bearloop import transforms
from bearloop.contract import environment
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    SIDE_ON,
    TOP_DOWN,
    CacheStage,
    EvaluateStage,
    FeaturesStage,
    LrFindStage,
    OneCycle,
    Recipe,
)
from tests.trainer.runs import model_of
from tests.trainer.test_fit import LeavesAfter, curve, fitted, same_weights, small_run
from tests.trainer.versions import recipe, whole
from trainer.cache import decided_by, digest_of
from trainer.cost import cost_stages
from trainer.data import labelled
from trainer.errors import InputError, InterruptedRunError
from trainer.evaluate import exact_arithmetic, normalised
from trainer.features import FOLDER, activations, made_by
from trainer.fit import fit
from trainer.leftovers import remove_leftovers
from trainer.model import Classifier
from trainer.precision import autocast

HEAD = whole(4, name="head", frozen_to=-1, schedule=OneCycle())


def fed(*stages: object, views: int = 1, **changes: object) -> Recipe:
    steps = (CacheStage(presize=40), FeaturesStage(views=views), HEAD, *stages)
    return recipe(*steps, **{"batch_size": 5, "dropout": 0.5, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(environment.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


class Counted(Classifier):
    """Counts the pictures that its body sees."""

    seen: int

    @classmethod
    def over(cls, model: Classifier) -> "Counted":
        model.__class__ = cls
        assert isinstance(model, Counted)
        model.seen = 0
        return model

    def features(self, pixels):  # type: ignore[no-untyped-def]
        self.seen += len(pixels)
        return super().features(pixels)


def test_a_fed_head_learns_what_it_learns_from_pictures(tmp_path: Path) -> None:
    plain = recipe(CacheStage(presize=32), HEAD, batch_size=5, dropout=0.5)
    without, expected = fitted(small_run(tmp_path, plain))
    with_pass, state = fitted(small_run(tmp_path, fed(), job="job-2"))
    assert [p.loss for p in state.steps] == pytest.approx(
        [p.loss for p in expected.steps], rel=1e-3
    )
    last, reference = state.epochs[-1], expected.epochs[-1]
    assert (last.valid_loss, last.error_rate) == pytest.approx(
        (reference.valid_loss, reference.error_rate), rel=1e-3
    )
    body = [key for key in without.state_dict() if not key.startswith("head.")]
    before, after = model_of(small_run(tmp_path, plain)).state_dict(), with_pass.state_dict()
    assert all(bool((before[key] == after[key]).all()) for key in body)


def test_the_body_sees_each_picture_once_and_never_again(tmp_path: Path, cache: Path) -> None:
    run = small_run(tmp_path, fed())
    model = Counted.over(model_of(run))
    fit(run, model, None)
    assert model.seen == 12 + 6
    again = Counted.over(model_of(run))
    other = small_run(tmp_path, fed(), job="job-2")
    fit(other, again, None)
    assert again.seen == 0
    assert same_weights(model, again)
    (folder,) = cache.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["train-0.npy", "valid.npy"]


def test_other_weights_seeds_and_pictures_are_other_activations(
    tmp_path: Path, cache: Path
) -> None:
    views = fed(views=2, augment=SIDE_ON)
    fitted(small_run(tmp_path, views))
    fitted(small_run(tmp_path, views, seed=43, job="job-2"))
    fitted(small_run(tmp_path, views, train=3, job="job-3"))
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"preprocess": Preprocess(size=32, resize="squish")},
        {"preprocess": Preprocess(size=32, std=(0.5, 0.5, 0.5))},
        {"precision": "bf16"},
        {"augment": TOP_DOWN},
        {"stages": (CacheStage(presize=36), FeaturesStage(views=2), HEAD, EvaluateStage())},
    ],
    ids=["resize", "statistics", "precision", "augmentation", "presize"],
)
def test_what_decides_the_numbers_names_them(
    tmp_path: Path, cache: Path, change: dict[str, object]
) -> None:
    views = fed(views=2, augment=SIDE_ON)
    fitted(small_run(tmp_path, views))
    fitted(small_run(tmp_path, views.model_copy(update=change), job="job-2"))
    assert len(list(cache.iterdir())) == 2


def test_other_weights_of_the_body_are_other_activations(tmp_path: Path, cache: Path) -> None:
    run = small_run(tmp_path, fed())
    model = model_of(run)
    found = []
    for part in (None, model.head, model.body):
        for parameter in [] if part is None else part.parameters():
            parameter.data.mul_(1.01)
        activations(run, model, feeding=FeaturesStage(), stage=HEAD, folder=cache.parent)
        found.append(len(list(cache.iterdir())))
    # What the head knows changes nothing of what it sees.
    assert found == [1, 1, 2]


def test_activations_that_have_no_room_are_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path, fed())
    model = model_of(run)
    needed = (12 + 6) * model.feature_width * 4
    told = {"feeding": FeaturesStage(), "stage": HEAD, "folder": tmp_path}
    with pytest.raises(InputError, match="activations of 18 pictures") as refused:
        activations(run, model, free=lambda _: needed - 1, **told)
    assert refused.value.problem.field == "recipe.stages.views"
    activations(run, model, free=lambda _: needed, **told)
    activations(run, model, free=lambda _: 0, **told)


def test_what_killed_passes_left_is_removed(tmp_path: Path, cache: Path) -> None:
    for name in ("other/train-0.1f", "other/train-0.npy", "other/valid.2e"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(b"half")
        os.utime(cache / name, (0, 0))
    (cache / "other/train-1.3d").write_bytes(b"half")
    fitted(small_run(tmp_path, fed()))
    assert {path.name for path in (cache / "other").iterdir()} == {"train-0.npy", "train-1.3d"}


class Swept(Counted):
    """Looks for leftovers while its own answers are written."""

    folder: Path

    def features(self, pixels):  # type: ignore[no-untyped-def]
        written = [file for file in self.folder.glob("*/*") if file.suffix != ".npy"]
        assert len(written) == 1
        os.utime(written[0], (0, 0))
        remove_leftovers(written)
        return super().features(pixels)


def test_what_a_pass_writes_is_no_leftover(tmp_path: Path, cache: Path) -> None:
    run = small_run(tmp_path, fed())
    model = Swept.over(model_of(run))
    assert isinstance(model, Swept)
    model.folder = cache
    fit(run, model, None)
    assert model.seen == 12 + 6


def test_what_makes_the_numbers_names_them_too() -> None:
    small, large = Preprocess(size=32), Preprocess(size=40)
    plain, drawn = (
        made_by(FeaturesStage(views=views), evaluation=small, presized=large) for views in (1, 2)
    )
    assert {f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"} < set(plain)
    for spec in (small, large):
        assert set(decided_by(spec)) < set(plain)
    functions = (normalised, exact_arithmetic, autocast)
    for computes in (trainer.model, trainer.families, trainer.features, *functions):
        assert digest_of(inspect.getsource(computes)) in plain
    for draws in (transforms, trainer.augment):
        source = inspect.getsource(draws)
        assert digest_of(source) in set(drawn) - set(plain)
        assert digest_of(source + "\n") not in drawn
    assert set(plain) < set(drawn)


def test_a_rate_is_searched_on_what_the_head_learns_from(tmp_path: Path) -> None:
    search = LrFindStage(iterations=30)
    steps = (CacheStage(presize=32), FeaturesStage(), search, HEAD)
    run = small_run(tmp_path, recipe(*steps, batch_size=5))
    model = Counted.over(model_of(run))
    state = fit(run, model, None)
    assert len(state.lr_finds[0].points) > 10
    assert model.seen == 12 + 6
    assert set(cost_stages(state)) == {"features", "lr-find head", "head"}
    assert all(seconds > 0 for seconds in cost_stages(state).values())


def test_each_epoch_takes_the_next_augmented_view(tmp_path: Path, cache: Path) -> None:
    run = small_run(tmp_path, fed(views=2, augment=SIDE_ON))
    model = Counted.over(model_of(run))
    fit(run, model, None)
    assert model.seen == 2 * 12 + 6
    (folder,) = cache.iterdir()
    first, second = (np.load(folder / f"train-{view}.npy") for view in (0, 1))
    assert first.shape == (12, model.feature_width)
    assert not np.allclose(first, second)


def test_the_stage_behind_trains_the_body_on_pictures(tmp_path: Path) -> None:
    run = small_run(tmp_path, fed(whole(1)))
    model = Counted.over(model_of(run))
    before = model_of(run)
    _, labels = labelled(run.items, "train")
    state = fit(run, model, None)
    assert model.seen == 18 + len(labels) + 6
    assert [point.stage for point in state.epochs] == ["head"] * 4 + ["whole"]
    pairs = zip(model.body.parameters(), before.body.parameters(), strict=True)
    assert any(bool((found != begun).any()) for found, begun in pairs)


def test_a_run_that_goes_on_behind_its_last_epoch_needs_no_pass(
    tmp_path: Path, cache: Path
) -> None:
    run = small_run(tmp_path, fed())
    trained, expected = fitted(run)
    # On a cluster nothing decoded outlives a pod.
    shutil.rmtree(cache)
    again = Counted.over(model_of(run))
    state = fit(run, again, run.checkpoints.newest())
    assert again.seen == 0
    assert not cache.exists()
    assert same_weights(trained, again)
    assert state == expected


@pytest.mark.parametrize(("precision", "field"), [("fp16", "precision"), ("fp32", "weights")])
def test_a_body_whose_numbers_break_leaves_nothing_to_find(
    tmp_path: Path, cache: Path, precision: str, field: str
) -> None:
    run = small_run(tmp_path, fed(precision=precision, model="resnet18"))
    model = model_of(run)
    # Beyond the largest number of fp16, and of fp32.
    first = next(model.body.parameters())
    first.data.mul_(1e6 if precision == "fp16" else 1e38)
    with pytest.raises(InputError, match=f"alone in {precision}") as refused:
        fit(run, model, None)
    problem = refused.value.problem
    assert (problem.code, problem.field) == ("features_not_finite", f"recipe.{field}")
    (folder,) = cache.iterdir()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("looks", [2, 7, 14])
def test_a_fed_run_that_left_and_came_back_ends_with_equal_bits(tmp_path: Path, looks: int) -> None:
    views = fed(whole(1), views=3, augment=SIDE_ON)
    straight, expected = fitted(small_run(tmp_path, views, job="job-2"))
    with pytest.raises(InterruptedRunError):
        fitted(small_run(tmp_path, views, interruption=LeavesAfter(looks)))
    back, state = fitted(small_run(tmp_path, views))
    assert same_weights(back, straight)
    assert curve(state) == curve(expected)
