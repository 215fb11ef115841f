"""A run that leaves while it evaluates: the next attempt computes what is left, and ends alike."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bearloop.contract.jobs import ExitCode, checkpoint_prefix
from bearloop.contract.recipes import CacheStage, EvaluateStage, LrFindStage, OneCycle, Recipe
from bearloop.contract.runs import NO_CURVES, Curves, LrFind
from bearloop.store import FolderStore
from tests.trainer.passes import KilledError, Pass, at_model, die, models, passes
from tests.trainer.runs import model_of, open_run
from tests.trainer.short import short_for_all
from tests.trainer.team import trained
from tests.trainer.test_job import Job
from tests.trainer.test_ranks import Team, shared
from tests.trainer.versions import pictures, put_version, recipe, resnet, whole
from trainer.__main__ import main
from trainer.kept_answers import answers_prefix
from trainer.predict import predict
from trainer.report import Predictions
from trainer.run import Run

CACHE = CacheStage(presize=32)
JUDGED = recipe(CACHE, whole(1), EvaluateStage(folds=3, tta_views=1))
TWO_FOLDS = EvaluateStage(folds=2, tta_views=0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def evicted() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def opened(folder: Path, made: Recipe, **changes: Any) -> Run:
    store = FolderStore(folder)
    spec = put_version(store, pictures(train=6, valid=2), recipe=made)
    return open_run(store, spec.model_copy(update=changes), folder=folder / "cache")


def same(one: Predictions, other: Predictions) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("logits", "tta", "out_of_fold")
        if getattr(one, name) is not None
    )


def keys(run: Run) -> list[str]:
    prefix = answers_prefix(run.spec, model_of(run))
    return [info.key for info in run.mailbox.store.list(prefix)]


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_evictions_closer_together_than_the_judges_take_let_the_run_end_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sigterm: None
) -> None:
    ended = {}
    # The run's own model is the first one, and then one for each fold.
    for name, leaves in (("alone", [None]), ("evicted", [3, 2, None])):
        job, made = Job(tmp_path / name), []
        put_version(job.store, pictures(train=4, valid=2), recipe=JUDGED)
        for attempt, number in zip("abc", leaves, strict=False):
            for variable, value in job.told(attempt).items():
                monkeypatch.setenv(variable, value)
            with passes(at_model(number or 0, evicted)) as seen:
                assert main([]) == (ExitCode.done if number is None else ExitCode.interrupted)
            made.append(len(models(seen)))
            if number is not None:
                progress = job.progress(attempt)
                assert progress is not None
                assert progress.stage == "judge-labels"
        assert made == ([4] if name == "alone" else [3, 2, 1])
        assert not list(job.store.list(checkpoint_prefix("job-1")))
        output = job.output_of_run()
        notes = Curves.model_validate_json(job.store.get(output.curves_key)).notes
        reports = {order: job.store.get(key) for order, key in output.report_keys.items()}
        ended[name] = (reports, output.summary, output.bundle_digest, notes)
    assert ended["evicted"] == ended["alone"]


# Of 24 pictures, eight at a time: three passes plain, three augmented, then the judges' own.
@pytest.mark.parametrize(("killed_at", "begins_at"), [(2, 0), (4, 3), (6, 3), (8, 6)])
def test_a_part_that_was_finished_is_not_computed_again(
    tmp_path: Path, killed_at: int, begins_at: int
) -> None:
    made = recipe(CACHE, whole(1), EvaluateStage(folds=2, tta_views=1))
    straight = opened(tmp_path / "straight", made)
    with passes() as expected:
        known = predict(straight, model_of(straight), weights=None)
    run = opened(tmp_path / "killed", made)
    with pytest.raises(KilledError), passes(lambda seen: die() if len(seen) == killed_at else None):
        predict(run, model_of(run), weights=None)
    with passes() as left:
        found = predict(run, model_of(run), weights=None)
    assert [one[1:] for one in left] == [one[1:] for one in expected[begins_at:]]
    assert same(found, known)


def test_heads_are_fitted_once_and_features_are_read_for_those_that_are_left(
    tmp_path: Path,
) -> None:
    torch.manual_seed(1)
    weights = torchvision.models.resnet18(weights=None).state_dict()
    run = opened(tmp_path, resnet(CACHE, whole(1), TWO_FOLDS))
    fitted: list[int] = []

    def fits(die_at: int | None) -> Predictions:
        fitted.append(0)

        def note(optimiser: torch.optim.Optimizer, *_: object) -> None:
            if isinstance(optimiser, torch.optim.LBFGS):
                if fitted[-1] + 1 == die_at:
                    die()
                fitted[-1] += 1

        hook = register_optimizer_step_pre_hook(note)
        try:
            return predict(run, model_of(run), weights=weights)
        finally:
            hook.remove()

    known = fits(None)
    run.checkpoints.clear()
    with pytest.raises(KilledError):
        fits(2)
    assert same(fits(None), known)
    # With nothing left to judge the body's pass is left out too.
    with passes() as seen:
        assert same(fits(None), known)
    assert (fitted, seen) == ([2, 1, 1, 0], [])


def test_what_was_halved_and_said_before_is_known_and_said_again(tmp_path: Path) -> None:
    said: dict[str, list[str]] = {"straight": [], "killed": [], "left": []}

    def short(name: str, look: Callable[[Sequence[Pass]], None] = lambda _: None) -> list[int]:
        folder = tmp_path / ("straight" if name == "straight" else "killed")
        run = opened(folder, recipe(CACHE, whole(1), TWO_FOLDS))
        tried: list[int] = []
        with (
            passes(look),
            short_for_all(holds=2, training=False) as answered,
            short_for_all(holds=4, training=True) as taught,
        ):
            try:
                predict(run, model_of(run), weights=None, say=said[name].append)
            finally:
                tried += [*answered, *taught]
        return tried

    assert max(short("straight")) == 8
    with pytest.raises(KilledError):
        short("killed", at_model(2, die))
    # Neither answers nor trains with more pictures than an attempt before could.
    assert max(short("left")) == 4
    assert said["left"] == said["straight"]
    assert [sentence.partition(":")[0] for sentence in said["left"]] == [
        "out of memory in evaluation with 8 pictures at a time", "while labels were judged",
    ]  # fmt: skip


def test_labels_that_could_not_be_judged_before_are_counted(tmp_path: Path) -> None:
    found = LrFind.model_validate(
        {
            "stage": "whole", "points": (), "end": "finished", "suggestions": {},
            "no_suggestion": None, "reason": None, "disagreement": None, "lr": 1e30,
        }
    )  # fmt: skip
    stage = whole(2, lr="auto", schedule=OneCycle())
    run = opened(tmp_path, recipe(CACHE, LrFindStage(), stage, TWO_FOLDS))
    curves, said = NO_CURVES.model_copy(update={"lr_finds": (found,)}), list[str]()
    with pytest.raises(KilledError), passes(at_model(2, die)):
        predict(run, model_of(run), weights=None, curves=curves)
    left = predict(run, model_of(run), weights=None, curves=curves, say=said.append)
    assert (left.out_of_fold == np.float32(1 / 3)).all()
    (sentence,) = said
    assert sentence.startswith("24 labels could not be judged")


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"half a file"])
def test_a_damaged_part_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    run = opened(tmp_path, recipe(CACHE, whole(1), TWO_FOLDS))
    known = predict(run, model_of(run), weights=None)
    *_, last = keys(run)
    run.mailbox.store.put(last, damage)
    with passes() as seen:
        assert same(predict(run, model_of(run), weights=None), known)
    assert {one.count for one in seen if not one.training} == {8}
    assert models(seen) == []


def test_another_specification_and_other_weights_find_nothing(tmp_path: Path) -> None:
    made = recipe(CACHE, whole(1), TWO_FOLDS)
    run = opened(tmp_path, made)
    model = model_of(run)
    predict(run, model, weights=None)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    for other, its in (
        (run, model),
        (opened(tmp_path, made, code_version="0.1.1"), model_of(run)),
    ):
        with passes() as seen:
            predict(other, its, weights=None)
        assert len(models(seen)) == 2


@pytest.mark.long
def test_each_process_keeps_its_own_and_another_number_of_them_reads_every_judge(
    tmp_path: Path,
) -> None:
    store = FolderStore(tmp_path / "store")
    spec = shared(store, recipe(CACHE, whole(1), EvaluateStage(folds=4, tta_views=1)))
    told = trained(store.url, tmp_path, what="predict and leave", count=2)
    for found in told:
        # Two judges each, of which the first was finished when both left.
        assert found["models"] == [2, 2, 1]
        assert all(torch.equal(found["left"][k], known) for k, known in found["straight"].items())
    run = open_run(store, spec, folder=tmp_path / "alone")
    with passes() as seen:
        alone = predict(run, model_of(run), weights=None)
    assert models(seen) == []
    assert sum(one.count for one in seen) == 2 * 30
    assert np.array_equal(alone.out_of_fold, told[0]["left"]["out_of_fold"].numpy())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_that_leave_while_they_judge_end_with_an_equal_report(
    tmp_path: Path,
) -> None:
    ended = {}
    for name in ("alone", "evicted"):
        team = Team(tmp_path / name)
        shared(team.store, recipe(CACHE, whole(4), EvaluateStage(folds=4, tta_views=1)))
        if name == "evicted":
            launcher = team.start("a")
            team.wait_for(partial(judges, team, "a"), launcher)
            launcher.send_signal(signal.SIGTERM)
            assert team.end(launcher) == ExitCode.interrupted, team.said
        assert team.end(team.start("b")) == ExitCode.done, team.said
        output = team.output_of_run()
        reports = {order: team.store.get(key) for order, key in output.report_keys.items()}
        ended[name] = (reports, output.summary, output.bundle_digest)
    # Both knew their trained weights again, and their own shares.
    for part in ("plain-1-of-2", "plain-2-of-2", "augmented-1-of-2", "augmented-2-of-2"):
        assert f"{part} was answered before" in team.said
    assert "judged-" in team.said
    assert ended["evicted"] == ended["alone"]


def judges(team: Team, attempt: str) -> bool:
    progress = team.progress(attempt)
    return progress is not None and progress.stage == "judge-labels"
