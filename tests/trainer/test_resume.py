"""A run that was evicted or killed anywhere goes on, and ends as if nothing had happened."""

import signal
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from bearloop.contract.jobs import (
    ExitCode,
    Progress,
    checkpoint_prefix,
    progress_key,
    result_key,
)
from bearloop.contract.recipes import (
    SIDE_ON,
    CacheStage,
    EarlyStopping,
    EvaluateStage,
    FitStage,
    LrFindStage,
    Recipe,
)
from bearloop.contract.runs import Curves, RunSpec, Tracking
from bearloop.store import FolderStore
from tests.trainer.plain import Plain
from tests.trainer.runs import model_of, open_run
from tests.trainer.test_fit import LeavesAfter, same_weights
from tests.trainer.test_job import Job
from tests.trainer.versions import (
    Picture,
    pictures,
    put_spec,
    put_version,
    put_weights,
    recipe,
    resnet,
    whole,
)
from trainer.checkpoint import FitState
from trainer.cost import Used, job_seconds
from trainer.data import labelled
from trainer.errors import InterruptedRunError
from trainer.fit import fit
from trainer.interruption import Interruption
from trainer.meter import read_used
from trainer.model import Classifier
from trainer.optimiser import new_optimiser
from trainer.run import Run
from trainer.step import Lesson, Place, Step, train_epoch

RICH = resnet(
    CacheStage(presize=40),
    LrFindStage(start_lr=1e-5, iterations=30, suggestion="steepest"),
    FitStage(name="frozen", epochs=1, lr="auto", frozen_to=-1, mixup=0.4, label_smoothing=0.1),
    whole(8, name="wild", lr=0.05, early_stopping=EarlyStopping(patience=2, metric="error_rate")),
    augment=SIDE_ON,
    dropout=0.5,
    batch_size=3,
    accumulate=2,
    oversample=True,
)
"""All that a run may do at once. Three steps an epoch, each of five pictures of three classes."""
EVALUATE = EvaluateStage(folds=2, tta_views=1)
EVERY_STEP = timedelta(microseconds=1)
"""A checkpoint is due as soon as a step is taken."""


class KilledError(BaseException):
    """The process is gone: nothing runs behind it."""


class DiesAfter(LeavesAfter):
    """Kills the run where it looks whether it should leave, once it has looked so many times."""

    @property
    def requested(self) -> bool:
        if super().requested:
            raise KilledError
        return False

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def few(*, missing: int = 2) -> list[Picture]:
    """Five pictures of each class to train on, but for the rare first one."""
    return pictures(train=5, valid=2)[missing:]


def opened(
    tmp_path: Path,
    wanted: Recipe,
    *,
    job: str,
    asks: Interruption | None = None,
    every: timedelta = EVERY_STEP,
) -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, few(), recipe=wanted, job=job)
    spec = spec.model_copy(update={"checkpoint_every": every})
    return open_run(store, spec, folder=tmp_path / "cache", interruption=asks)


def fitted(run: Run) -> tuple[Classifier, FitState]:
    model = model_of(run)
    return model, fit(run, model, run.checkpoints.newest())


def without_times(state: FitState) -> dict[str, object]:
    """All of it that the clock does not write."""
    kept = state.model_dump(exclude={"seconds", "train_seconds", "seconds_beside"})
    kept["epochs"] = [point.model_dump(exclude={"seconds"}) for point in state.epochs]
    return kept


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, FitState]:
    return fitted(opened(tmp_path_factory.mktemp("undisturbed"), RICH, job="job-1"))


@pytest.mark.long
class TestEverythingAtOnce:
    def test_it_does_all_that_it_says(self, undisturbed: tuple[Classifier, FitState]) -> None:
        _, state = undisturbed
        assert state.lr_finds[0].lr is not None
        assert list(state.kept) == ["wild"]
        assert len(state.epochs) < 9
        assert len(state.steps) == 3 * len(state.epochs)

    # Looks 1 to 31 are the search; then an epoch is three steps and its validation's batches.
    @pytest.mark.parametrize("looks", [10, 33, 38])
    @pytest.mark.parametrize("end", [LeavesAfter, DiesAfter])
    def test_it_goes_on_and_ends_with_equal_bits(
        self,
        tmp_path: Path,
        undisturbed: tuple[Classifier, FitState],
        end: Callable[[int], Interruption],
        looks: int,
    ) -> None:
        with pytest.raises((InterruptedRunError, KilledError)):
            fitted(opened(tmp_path, RICH, job="job-1", asks=end(looks)))
        run = opened(tmp_path, RICH, job="job-1")
        begun = run.checkpoints.newest()
        assert (begun is None) == (looks == 10)
        model, state = fitted(run)
        expected, known = undisturbed
        assert same_weights(model, expected)
        assert without_times(state) == without_times(known)


def test_a_run_that_is_killed_in_a_long_epoch_goes_on_from_its_middle(tmp_path: Path) -> None:
    long = recipe(CacheStage(presize=40), whole(1), EVALUATE, augment=SIDE_ON, batch_size=2)
    straight, known = fitted(opened(tmp_path / "straight", long, job="job-1"))
    with pytest.raises(KilledError):
        fitted(opened(tmp_path / "killed", long, job="job-1", asks=DiesAfter(4)))
    run = opened(tmp_path / "killed", long, job="job-1")
    begun = run.checkpoints.newest()
    assert begun is not None
    # The fifth step is lost with the process, and the four before it are kept.
    assert (begun.state.epoch, begun.state.batch, len(known.steps)) == (0, 4, 6)
    model, state = fitted(run)
    assert same_weights(model, straight)
    assert without_times(state) == without_times(known)


def test_nothing_is_saved_in_an_epoch_before_its_time(tmp_path: Path) -> None:
    long = recipe(CacheStage(presize=40), whole(1), EVALUATE, batch_size=2)
    run = opened(tmp_path, long, job="job-1", asks=DiesAfter(4), every=timedelta(days=1))
    with pytest.raises(KilledError):
        fitted(run)
    assert run.checkpoints.newest() is None


@pytest.mark.parametrize(
    ("of_stage", "of_recipe"),
    [
        ({"mixup": 0.4}, {}),
        ({"label_smoothing": 0.1}, {"class_weights": "balanced"}),
        ({}, {"oversample": True}),
        ({}, {"accumulate": 2}),
        ({"mixup": 0.4}, {"accumulate": 2, "oversample": True, "precision": "bf16"}),
    ],
)
def test_an_epoch_left_in_its_middle_goes_on_with_the_same_pictures_and_draws(
    tmp_path: Path, of_stage: dict[str, object], of_recipe: dict[str, object]
) -> None:
    given = {"augment": SIDE_ON, "batch_size": 2, **of_recipe}
    wanted = recipe(CacheStage(presize=40), whole(2, **of_stage), **given)
    run = opened(tmp_path, wanted, job="job-1")
    stage, (rows, labels) = whole(2, **of_stage), labelled(run.items, "train")
    lesson = Lesson(wanted, stage, run.presized, rows, labels, run.spec.seed)

    def taught(left_at: int | None) -> tuple[list[Step], torch.nn.Module]:
        model: Classifier = Plain()  # type: ignore[assignment]
        optimiser = new_optimiser(model, stage)
        taken: list[Step] = []
        place = Place(1, 1, batch=0, steps=7)
        for step in train_epoch(model, optimiser, lesson=lesson, place=place):
            taken.append(step)
            if len(taken) == left_at:
                break
        if left_at is not None:
            place = Place(1, 1, batch=left_at, steps=7 + left_at)
            taken += train_epoch(model, optimiser, lesson=lesson, place=place)
        return taken, model

    expected, straight = taught(None)
    found, resumed = taught(2)
    assert len(expected) >= 3
    assert found == expected
    left, right = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_job_that_is_killed_in_an_epoch_ends_like_one_that_was_left_alone(
    tmp_path: Path, mlflow_address: str
) -> None:
    stages = (CacheStage(presize=40), whole(10, mixup=0.4), EVALUATE)
    wanted = recipe(*stages, augment=SIDE_ON, batch_size=2, accumulate=2, oversample=True)
    ended = {}
    for name in ("alone", "killed"):
        job = Job(tmp_path / name)
        spec = tracked(put_version(job.store, few(), recipe=wanted), mlflow_address, job)
        if name == "killed":
            for attempt, ending in (("a", signal.SIGKILL), ("b", signal.SIGTERM)):
                process = job.start(attempt)
                before = len(kept(job))
                job.wait_for(partial(kept, job), process)
                job.wait_for_step(attempt, process, done=10 if attempt == "a" else 22)
                process.send_signal(ending)
                assert job.end(process) == {
                    signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: ExitCode.interrupted,
                }[ending], job.said  # fmt: skip
                assert len(kept(job)) >= max(1, before)
                assert not job.store.exists(result_key("job-1"))
        assert job.end(job.start("last")) == ExitCode.done, job.said
        output = job.output_of_run()
        curves = Curves.model_validate_json(job.store.get(output.curves_key))
        assert spec.tracking is not None
        history = MlflowClient().get_metric_history(spec.tracking.run_id, "step/loss")
        assert sorted(point.step for point in history) == [point.step for point in curves.steps]
        logged = [point.value for point in sorted(history, key=lambda point: point.step)]
        np.testing.assert_allclose(logged, [point.loss for point in curves.steps])
        ended[name] = (curves.steps, output.summary, output.bundle_digest)
    assert ended["killed"] == ended["alone"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_run_that_was_killed_and_evicted_tells_what_all_of_it_took(tmp_path: Path) -> None:
    job, weights = Job(tmp_path), put_weights(tmp_path)
    # With weights labels are judged by heads: no fold trains as long as the run.
    wanted = resnet(CacheStage(presize=40), whole(100), EVALUATE, weights=weights)
    spec = put_version(job.store, few(), recipe=wanted)
    put_spec(job.store, spec.model_copy(update={"checkpoint_every": timedelta(seconds=5)}))
    killed = job.start("a")
    job.wait_for(lambda: kept(job) and any(one.fit_seconds for one in used(job)), killed)
    killed.kill()
    job.end(killed)
    begun = Progress.model_validate_json(job.store.get(progress_key("job-1", "a")))
    evicted = job.start("b")
    job.wait_for_step("b", evicted, done=begun.done + 1)
    evicted.terminate()
    assert job.end(evicted) == ExitCode.interrupted, job.said
    before = job_seconds(used(job))
    assert job.end(job.start("c")) == ExitCode.done, job.said

    output, attempts = job.output_of_run(), used(job)
    assert [one.attempt for one in attempts] == ["a", "b", "c"]
    assert {stage for stage, spent in before.items() if output.seconds[stage] > spent} == {
        "cache", "fit",
    }  # fmt: skip
    assert output.seconds["fit"] == pytest.approx(sum(one.fit_seconds for one in attempts))
    assert output.cost is not None
    # The kernel's own figure of a peak falls by some pages now and then.
    most = max(one.memory for one in attempts)
    assert output.cost.peak_memory == pytest.approx(most, rel=0.01)
    there = sum(one.fit_seconds * one.cores for one in attempts)
    busy = sum(one.cpu_seconds for one in attempts)
    assert output.cost.cpu_utilisation == pytest.approx(busy / there)


def used(job: Job) -> list[Used]:
    return read_used(job.store, "job-1")


def kept(job: Job) -> list[str]:
    return [info.key for info in job.store.list(checkpoint_prefix("job-1"))]


def tracked(spec: RunSpec, address: str, job: Job) -> RunSpec:
    """Let the job be logged to a run as the worker makes it, with a checkpoint every few steps."""
    client = MlflowClient(address)
    found = client.get_experiment_by_name("resumed")
    experiment = found.experiment_id if found else client.create_experiment("resumed")
    run = client.create_run(experiment).info.run_id
    changed = spec.model_copy(
        update={
            "checkpoint_every": timedelta(seconds=0.5),
            "tracking": Tracking(run_id=str(run), experiment="resumed"),
        }
    )
    put_spec(job.store, changed)
    return changed
