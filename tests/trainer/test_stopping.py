"""Early stopping: a stage ends when waiting is over, and with the weights of its best epoch."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from bearloop.contract.recipes import (
    CacheStage,
    CosineRestarts,
    EarlyStopping,
    FitStage,
    OneCycle,
    Recipe,
)
from bearloop.contract.runs import Curves, EpochPoint
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.checkpoint import FitState
from trainer.data import labelled
from trainer.fit import fit, fit_rows
from trainer.model import Classifier
from trainer.run import Run
from trainer.stopping import as_kept, best_epoch, is_over, why

PATIENT = EarlyStopping(patience=2)
WILD = recipe(
    CacheStage(presize=32), whole(1), whole(30, name="wild", lr=0.1, early_stopping=PATIENT)
)
"""At this rate the valid loss rises at once, after an epoch that learnt something."""


def epochs(*losses: float, stage: str = "whole", errors: list[float] | None = None) -> list:
    return [
        EpochPoint(
            stage=stage,
            epoch=number,
            train_loss=1.0,
            valid_loss=loss,
            error_rate=errors[number - 1] if errors else 0.5,
            seconds=1.0,
        )
        for number, loss in enumerate(losses, start=1)
    ]


def small_run(tmp_path: Path, wanted: Recipe, *, job: str = "job-1") -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, pictures(train=4, valid=2), recipe=wanted, job=job)
    return open_run(store, spec, folder=tmp_path / "cache")


def fitted(run: Run) -> tuple[Classifier, FitState]:
    model = model_of(run)
    return model, fit(run, model, run.checkpoints.newest())


class TestWhen:
    def test_it_waits_so_many_epochs_for_a_better_one(self) -> None:
        stage = whole(9, early_stopping=PATIENT)
        assert not is_over([], stage)
        assert not is_over(epochs(3, 2, 2), stage)
        assert is_over(epochs(3, 2, 2, 2), stage)
        assert not is_over(epochs(3, 2, 2.5, 1), stage)
        assert is_over(epochs(3, 2, 2.5, 1, 2, 2), stage)
        best = best_epoch(epochs(3, 2, 2, 2), stage)
        assert best is not None
        assert best.epoch == 2
        assert not is_over(epochs(1, 2, 3, 4), whole(9))

    def test_the_metric_is_the_stage_s(self) -> None:
        found = epochs(1, 2, 3, errors=[0.3, 0.2, 0.1])
        for metric, over in (("valid_loss", True), ("error_rate", False)):
            stopping = EarlyStopping(patience=2, metric=metric)  # type: ignore[arg-type]
            stage = whole(9, early_stopping=stopping)
            assert is_over(found, stage) is over
            assert metric.replace("_", " ") in why(found, stage)

    def test_where_the_rate_restarts_the_ends_of_its_cycles_count(self) -> None:
        cycles = CosineRestarts(cycle_len=2, cycle_mult=2)
        stage = whole(14, schedule=cycles, early_stopping=PATIENT)
        # The lowest of the first cycle is not its end, and the restart is no reason to stop.
        losses = [1.0, 2.0, 4, 4, 4, 1.5, 3, 3, 3, 3, 3, 3, 3, 1.8]
        assert best_epoch(epochs(*losses[:1]), stage) is None
        assert not any(is_over(epochs(*losses[:count]), stage) for count in range(14))
        best = best_epoch(epochs(*losses), stage)
        assert best is not None
        assert best.epoch == 6
        worse = epochs(*losses[:5], 2.5)
        assert is_over(worse, stage)
        assert as_kept(
            stage, Curves(epochs=tuple(worse), steps=(), kept={"whole": 2})
        ).epochs == 2  # fmt: skip

    def test_with_a_single_cycle_it_is_refused(self) -> None:
        cycle = CosineRestarts(cycle_len=3)
        with pytest.raises(ValidationError, match="smaller cycle_len"):
            FitStage(name="a", epochs=3, lr=1e-3, schedule=cycle, early_stopping=PATIENT)
        FitStage(name="a", epochs=6, lr=1e-3, schedule=cycle, early_stopping=PATIENT)

    def test_epochs_of_the_stage_before_do_not_count(self) -> None:
        assert not is_over(epochs(1, 2, 3, stage="before"), whole(9, early_stopping=PATIENT))

    def test_with_snapshots_it_is_refused(self) -> None:
        cycles = CosineRestarts(snapshots=True)
        with pytest.raises(ValidationError, match="none may be missing"):
            FitStage(name="a", epochs=3, lr=1e-3, schedule=cycles, early_stopping=PATIENT)
        FitStage(name="a", epochs=3, lr=1e-3, schedule=CosineRestarts(), early_stopping=PATIENT)

    def test_with_one_cycle_it_is_refused_with_the_way_out(self) -> None:
        with pytest.raises(ValidationError, match="diagnosis proposes"):
            FitStage(name="a", epochs=3, lr=1e-3, schedule=OneCycle(), early_stopping=PATIENT)


@pytest.mark.long
def test_a_stage_ends_with_its_best_weights_and_says_so(tmp_path: Path) -> None:
    run = small_run(tmp_path, WILD)
    model, state = fitted(run)
    own = [point for point in state.epochs if point.stage == "wild"]
    best = min(own, key=lambda point: point.valid_loss)
    assert len(own) < 30
    assert own[-1].epoch == best.epoch + 2
    assert state.kept == {"wild": best.epoch}
    (note,) = state.notes
    assert (
        f"stopped after epoch {own[-1].epoch} and keeps the weights of epoch {best.epoch}" in note
    )
    assert state.curves().kept == state.kept

    # Trained for just so many epochs, the run has these weights; so has a model that judges labels.
    epochs = best.epoch - 1
    short = WILD.model_copy(
        update={"stages": (*WILD.stages[:2], whole(epochs, name="wild", lr=0.1))}
    )
    expected, _ = fitted(small_run(tmp_path, short, job="job-2"))
    assert same(model, expected)
    assert as_kept(WILD.stages[2], state.curves()).epochs == epochs  # type: ignore[arg-type]
    judge = model_of(run)
    rows, labels = labelled(run.items, "train")
    fit_rows(
        judge,
        recipe=WILD,
        curves=state.curves(),
        presized=run.presized,
        rows=rows,
        labels=labels,
        seed=run.spec.seed,
    )
    assert same(judge, expected)


def same(one: Classifier, other: Classifier) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return all(torch.equal(left[key], right[key]) for key in left)
