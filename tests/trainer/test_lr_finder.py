"""The lr-find stage: it finds a rate, tells why it finds none, and leaves no trace."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bearloop.contract.recipes import SIDE_ON, CacheStage, FitStage, LrFindStage, OneCycle, Recipe
from bearloop.contract.runs import Curves, LrFind, LrFinds
from bearloop.curves_file import CURVES_FILE
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.test_fit import LeavesAfter, fitted, same_weights
from tests.trainer.test_plots import lr_find
from tests.trainer.versions import pictures, put_version, resnet, whole
from trainer.checkpoint import FitState
from trainer.data import labelled
from trainer.errors import InputError, InterruptedRunError
from trainer.fit import fit_rows
from trainer.interruption import Interruption
from trainer.lr_finder import find_rate, rate_of
from trainer.mailbox import Mailbox
from trainer.model import Classifier, freeze_to
from trainer.plots import draw_curves, draw_lr_find
from trainer.run import Run

SEARCH = LrFindStage(start_lr=1e-5, end_lr=10, iterations=30)
CACHE = CacheStage(presize=40)
FROZEN = FitStage(name="frozen", epochs=1, lr=2e-3, frozen_to=-1, schedule=OneCycle(pct_start=0.9))
WHOLE = FitStage(name="whole", epochs=1, lr=1e-3, lr_body=1e-5)


def random_recipe(*stages: LrFindStage | FitStage, batch_size: int = 5) -> Recipe:
    """All that is random is on: augmentation, dropout, order."""
    return resnet(CACHE, *stages, augment=SIDE_ON, dropout=0.5, batch_size=batch_size)


def opened(
    tmp_path: Path, recipe: Recipe, *, job: str = "job-1", interruption: Interruption | None = None
) -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, pictures(train=4, valid=2), recipe=recipe, job=job)
    return open_run(store, spec, folder=tmp_path / "cache", interruption=interruption)


class Counted(FolderStore):
    """A folder that remembers what was written, in order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        self.written.append(key)
        super().put(key, data)


def attempt_of(run: Run, attempt: str) -> tuple[Run, Counted]:
    """Let the run be another attempt, and see what it writes."""
    store = Counted(run.mailbox.store.folder)  # type: ignore[attr-defined]
    mailbox = Mailbox(store, job=run.spec.job, attempt=attempt)
    return replace(run, mailbox=mailbox), store


def drawn_in(store: Counted) -> list[str]:
    return [key.rpartition("/")[2] for key in store.written if key.endswith(".png")]


def searched(run: Run, model: Classifier, search: LrFindStage = SEARCH) -> LrFind:
    stage = run.spec.recipe.fits()[0][1]
    freeze_to(model, stage.frozen_to)
    return find_rate(run, model, search=search, stage=stage)


def bits_of(model: Classifier) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def losses_of(state: FitState) -> list[float]:
    return [point.loss for point in state.steps]


def test_a_run_with_a_search_ends_with_the_bits_of_one_without(tmp_path: Path) -> None:
    plain, expected = fitted(opened(tmp_path, random_recipe(FROZEN, WHOLE), job="job-2"))
    stages = (SEARCH, FROZEN, SEARCH, WHOLE)
    model, state = fitted(opened(tmp_path, random_recipe(*stages)))
    assert [find.stage for find in state.lr_finds] == ["frozen", "whole"]
    assert losses_of(state) == losses_of(expected)
    assert same_weights(model, plain)


@pytest.mark.parametrize(
    ("search", "interruption"),
    [
        (SEARCH, None),
        (SEARCH, LeavesAfter(7)),
        (SEARCH.model_copy(update={"start_lr": 1e20, "end_lr": 1e30}), None),
    ],
    ids=["finished", "interrupted", "not finite"],
)
def test_a_search_leaves_no_trace_however_it_ends(
    tmp_path: Path, search: LrFindStage, interruption: Interruption | None
) -> None:
    run = opened(tmp_path, random_recipe(WHOLE), interruption=interruption)
    model = model_of(run)
    model.eval()
    torch.manual_seed(7)
    before, random = bits_of(model), torch.get_rng_state()
    try:
        searched(run, model, search)
    except InterruptedRunError:
        assert interruption is not None
    after = model.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    # The fused optimiser walks memory in the parameter's own order.
    assert model.body[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_rates_grow_as_fastai_s_do_and_the_loss_runs_away(tmp_path: Path) -> None:
    run = opened(tmp_path, random_recipe(WHOLE))
    found = searched(run, model_of(run), SEARCH.model_copy(update={"end_lr": 1000.0}))
    rates = [point.lr for point in found.points]
    steps = np.diff(np.log(rates))
    assert rates[0] == 1e-5
    assert steps == pytest.approx(np.log(1e8) / 30)
    assert found.end == "diverged"
    smoothed = [point.smoothed for point in found.points]
    assert smoothed[0] == pytest.approx(found.points[0].loss)
    assert smoothed[-1] > 4 * min(smoothed)
    assert all(value <= 4 * min(smoothed) for value in smoothed[:-1])


def test_the_head_alone_is_searched_for_where_only_it_trains(tmp_path: Path) -> None:
    run = opened(tmp_path, resnet(CACHE, FROZEN.model_copy(update={"lr": "auto"})))
    found = searched(run, model_of(run))
    assert found.stage == "frozen"
    assert found.suggestions.keys() == {"minimum", "steepest", "valley", "slide"}
    assert found.lr == found.suggestions["valley"]
    assert found.no_suggestion is None
    assert found.disagreement == pytest.approx(
        max(found.suggestions.values()) / min(found.suggestions.values())
    )


def test_auto_is_what_was_found_in_each_stage_s_proportion(tmp_path: Path) -> None:
    stages = (
        SEARCH.model_copy(update={"suggestion": "minimum"}),
        FROZEN.model_copy(update={"lr": "auto"}),
        WHOLE.model_copy(
            update={"lr": "auto", "lr_body": None, "lr_times": 0.5, "lr_body_times": 0.05}
        ),
    )
    auto = resnet(CACHE, *stages)
    run = opened(tmp_path, auto)
    model, state = fitted(run)
    (found,) = state.lr_finds
    assert found.lr == found.suggestions["minimum"]
    numbers = resnet(
        CACHE, *(stage.at(found.lr) for stage in stages if isinstance(stage, FitStage))
    )
    same, expected = fitted(opened(tmp_path, numbers, job="job-2"))
    assert losses_of(state) == losses_of(expected)
    assert same_weights(model, same)
    again = model_of(run)
    rows, labels = labelled(run.items, "train")
    fit_rows(
        again,
        recipe=auto,
        curves=state.curves(),
        presized=run.presized,
        rows=rows,
        labels=labels,
        seed=run.spec.seed,
    )
    assert same_weights(again, model)


def test_where_no_rate_is_found_the_run_says_why_and_keeps_the_curve(tmp_path: Path) -> None:
    wild = SEARCH.model_copy(update={"start_lr": 1e20, "end_lr": 1e30})
    run = opened(tmp_path, resnet(CACHE, wild, whole(1, lr="auto")))
    with pytest.raises(InputError, match="was soon no number") as caught:
        fitted(run)
    problem = caught.value.problem
    assert (problem.code, problem.field) == ("no_rate_found", "recipe.stages.lr")
    kept = LrFinds.model_validate_json(run.mailbox.store.get(run.mailbox.prefix + "lr-finder.json"))
    assert kept.finds[0].end == "not_finite"
    assert kept.finds[0].no_suggestion == "not_finite"
    left = Curves.model_validate_json(run.mailbox.store.get(run.mailbox.prefix + CURVES_FILE))
    assert left.lr_finds == kept.finds
    drawn = run.mailbox.store.get(run.mailbox.prefix + "lr-finder-whole.png")
    assert draw_curves(left) == {"5-lr-finder-whole.png": drawn}


def test_each_search_is_drawn_once_beside_its_curve(tmp_path: Path) -> None:
    stages = (SEARCH, FROZEN, SEARCH, WHOLE)
    run, store = attempt_of(opened(tmp_path, random_recipe(*stages)), "a")
    _, state = fitted(run)
    assert drawn_in(store) == ["lr-finder-frozen.png", "lr-finder-whole.png"]
    for find in state.lr_finds:
        data = store.get(f"{run.mailbox.prefix}lr-finder-{find.stage}.png")
        assert data == draw_lr_find(find)
        assert Image.open(io.BytesIO(data)).format == "PNG"


def test_an_attempt_that_goes_on_has_the_pictures_of_the_one_before(tmp_path: Path) -> None:
    run, store = attempt_of(opened(tmp_path, random_recipe(SEARCH, FROZEN, WHOLE)), "b")
    find = lr_find(90, suggests=True)
    # The stage that was searched for is behind the checkpoint.
    run.checkpoints.save(model_of(run), None, FitState(stage=1, lr_finds=[find]))
    _, state = fitted(run)
    assert state.lr_finds == [find]
    assert drawn_in(store) == ["lr-finder-frozen.png"]
    assert store.get(run.mailbox.prefix + "lr-finder-frozen.png") == draw_lr_find(find)
    published = LrFinds.model_validate_json(store.get(run.mailbox.prefix + "lr-finder.json"))
    assert published.finds == (find,)


def test_a_search_that_finds_nothing_does_not_stop_a_run_that_asks_for_nothing(
    tmp_path: Path,
) -> None:
    timid = SEARCH.model_copy(update={"start_lr": 1e-12, "end_lr": 1e-11})
    _, state = fitted(opened(tmp_path, resnet(CACHE, timid, whole(1))))
    (found,) = state.lr_finds
    assert (found.no_suggestion, found.lr, found.suggestions) == ("flat", None, {})
    assert "falls by" in (found.reason or "")
    assert Curves.model_validate_json(state.curves().canonical()).lr_finds == (found,)


# 30 looks of the search, one behind it, then a look at each step.
@pytest.mark.parametrize("looks", [7, pytest.param(34, marks=pytest.mark.long)])
def test_a_run_that_left_in_or_behind_the_search_ends_with_equal_bits(
    tmp_path: Path, looks: int
) -> None:
    calm = SEARCH.model_copy(update={"stop_at": 1e9})
    stage = WHOLE.model_copy(update={"lr": "auto", "lr_body": None, "epochs": 4})
    # All pictures in one batch: the loss of five is too noisy for a rate to be found.
    auto = random_recipe(calm, stage, batch_size=12)
    straight, expected = fitted(opened(tmp_path, auto, job="job-2"))
    with pytest.raises(InterruptedRunError):
        fitted(opened(tmp_path, auto, interruption=LeavesAfter(looks)))
    back = opened(tmp_path, auto)
    assert (back.checkpoints.newest() is None) == (looks < 30)
    model, state = fitted(back)
    assert state.lr_finds == expected.lr_finds
    assert losses_of(state) == losses_of(expected)
    assert same_weights(model, straight)


def test_the_last_rate_is_one_step_below_the_end() -> None:
    assert rate_of(SEARCH, 0) == 1e-5
    assert rate_of(SEARCH, 30) == pytest.approx(10)
