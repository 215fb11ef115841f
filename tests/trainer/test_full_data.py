"""A run on all images: valid and test ones are learnt too, and nothing is measured on any."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient

from bearloop.contract import environment
from bearloop.contract.jobs import ExitCode
from bearloop.contract.recipes import (
    SIDE_ON,
    CacheStage,
    EarlyStopping,
    EvaluateStage,
    FeaturesStage,
    LrFindStage,
    Recipe,
)
from bearloop.contract.runs import Curves
from bearloop.curves_file import CURVES_FILE, EPOCHS, EPOCHS_FILE, save_curves
from bearloop.report_file import read_all
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.team import fit_all, trained
from tests.trainer.test_fit import LeavesAfter, curve, fitted, same_weights
from tests.trainer.test_job import Job, job, refused  # noqa: F401
from tests.trainer.test_ranks import EVALUATE, GENTLE
from tests.trainer.test_resume import tracked
from tests.trainer.versions import (
    Picture,
    picture,
    pictures,
    put_spec,
    put_version,
    recipe,
    resnet,
    whole,
)
from trainer.__main__ import main
from trainer.data import held_out, labelled, taught
from trainer.errors import InputError, InterruptedRunError
from trainer.evaluate import softmax
from trainer.fit import fit_rows
from trainer.interruption import Interruption
from trainer.predict import predict
from trainer.run import Run

RANDOM = recipe(
    CacheStage(presize=40),
    whole(2),
    augment=SIDE_ON,
    dropout=0.5,
    batch_size=8,
    train_on="all",
)
"""With 21 labelled pictures: three steps an epoch, and no validation between."""


def mixed() -> list[Picture]:
    """Four train, two valid and one test picture of each class, and a conflict."""
    tested: list[Picture] = [(picture(label, 50 + label), label, "test") for label in range(3)]
    return [*pictures(train=4, valid=2), *tested, (picture(0, 99), None, "valid")]


def run_on(
    tmp_path: Path, wanted: Recipe, *, named: str = "job-1", asks: Interruption | None = None
) -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, mixed(), recipe=wanted, job=named)
    return open_run(store, spec, folder=tmp_path / "cache", interruption=asks)


def test_every_labelled_picture_is_learnt_and_none_is_held_out(tmp_path: Path) -> None:
    run = run_on(tmp_path, RANDOM)
    rows, labels = taught(run.items, RANDOM)
    assert [run.items[row].label for row in rows] == list(labels)
    assert {row for row, item in enumerate(run.items) if item.label is not None} == {*rows}
    assert {run.items[row].split for row in rows} == {"train", "valid", "test"}
    assert held_out(run.items, RANDOM) is None
    kept = RANDOM.model_copy(update={"train_on": "train"})
    assert {run.items[row].split for row in taught(run.items, kept)[0]} == {"train"}
    apart = held_out(run.items, kept)
    assert apart is not None
    assert len(apart[0]) == 6


def test_the_weights_are_those_of_a_training_on_all_three_splits(tmp_path: Path) -> None:
    run = run_on(tmp_path, RANDOM)
    model, state = fitted(run)
    found = {}
    for splits in (("train", "valid", "test"), ("train", "valid")):
        found[splits] = model_of(run)
        rows, labels = labelled(run.items, *splits)
        fit_rows(
            found[splits],
            recipe=RANDOM,
            presized=run.presized,
            rows=rows,
            labels=labels,
            seed=42,
        )
    assert same_weights(model, found["train", "valid", "test"])
    assert not same_weights(model, found["train", "valid"])
    assert len(state.steps) == 6


def test_no_epoch_has_an_error_in_any_file(tmp_path: Path) -> None:
    run = run_on(tmp_path, RANDOM)
    _, state = fitted(run)
    unmeasured = ("valid_loss", "valid_loss_low", "valid_loss_high", "error_rate", "error")
    for point in state.epochs:
        assert [getattr(point, name) for name in unmeasured] == [None] * 5
    assert all(point.train_loss > 0 for point in state.epochs)
    store = run.mailbox.store
    kept = store.get(save_curves(store, "a/", state.curves()))
    assert b"NaN" not in kept
    assert Curves.model_validate_json(kept) == state.curves()
    for row in pq.read_table(tmp_path / "store" / "a" / EPOCHS_FILE).to_pylist():
        measured = {*EPOCHS.names} - {"stage", "epoch", "train_loss", "seconds"}
        assert {row[name] for name in measured} == {None}
        assert row["train_loss"] > 0


# Three steps an epoch: it is left within the first, and within the second.
@pytest.mark.parametrize("looks", [1, 4])
def test_it_goes_on_where_it_was_left_and_ends_with_equal_bits(tmp_path: Path, looks: int) -> None:
    straight, expected = fitted(run_on(tmp_path, RANDOM, named="job-2"))
    with pytest.raises(InterruptedRunError):
        fitted(run_on(tmp_path, RANDOM, asks=LeavesAfter(looks)))
    back = run_on(tmp_path, RANDOM)
    resumed = back.checkpoints.newest()
    assert resumed is not None
    assert 0 < len(resumed.state.steps) < 6
    model, state = fitted(back)
    assert same_weights(model, straight)
    assert curve(state) == curve(expected)
    assert [point.train_loss for point in state.epochs] == [
        point.train_loss for point in expected.epochs
    ]


def test_a_rate_is_searched_on_all_of_them(tmp_path: Path) -> None:
    search = LrFindStage(start_lr=1e-5, iterations=45, suggestion="steepest")
    auto = whole(1, lr="auto")
    found = {}
    for train_on in ("all", "train"):
        searched = resnet(CacheStage(presize=32), search, auto, train_on=train_on)
        _, state = fitted(run_on(tmp_path, searched, named=f"job-{train_on}"))
        found[train_on] = [point.loss for point in state.lr_finds[0].points]
        assert state.lr_finds[0].lr is not None
    # Another order of other pictures.
    assert found["all"] != found["train"]


def test_a_head_learns_from_the_activations_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.CACHE, str(tmp_path / "cache"))
    head = whole(3, name="head", frozen_to=-1)
    plain = recipe(CacheStage(presize=32), head, train_on="all")
    fed = recipe(CacheStage(presize=32), FeaturesStage(), head, train_on="all")
    _, expected = fitted(run_on(tmp_path, plain))
    _, state = fitted(run_on(tmp_path, fed, named="job-2"))
    assert [p.loss for p in state.steps] == pytest.approx(
        [p.loss for p in expected.steps], rel=1e-3
    )
    assert [p.valid_loss for p in state.epochs] == [None] * 3
    (folder,) = (tmp_path / "cache" / "features").iterdir()
    (only,) = folder.iterdir()
    assert (only.name, len(np.load(only))) == ("train-0.npy", 21)


@pytest.mark.parametrize("train_on", ["train", "all"])
def test_who_learnt_a_test_label_does_not_judge_it(tmp_path: Path, train_on: str) -> None:
    stages = (CacheStage(presize=32), whole(2), EvaluateStage(folds=2, tta_views=0))
    run = run_on(tmp_path, recipe(*stages, train_on=train_on))
    model, state = fitted(run)
    said = predict(run, model, weights=None, curves=state.curves())
    tested = [item.split == "test" for item in run.items]
    own = softmax(said.logits).astype(np.float32)
    assert np.isfinite(said.out_of_fold).all()
    assert np.array_equal(own[tested], said.out_of_fold[tested]) == (train_on == "train")


def test_a_last_step_that_breaks_the_weights_is_named(tmp_path: Path) -> None:
    """Nothing is validated behind it: who predicts sees it first."""
    stages = (CacheStage(presize=32), whole(1, lr=1e30), EVALUATE)
    run = run_on(tmp_path, recipe(*stages, train_on="all", batch_size=64))
    model, state = fitted(run)
    assert len(state.steps) == 1
    with pytest.raises(InputError, match=r"not finite at step 1 \(stage 'whole'\)") as refused:
        predict(run, model, weights=None, curves=state.curves())
    assert refused.value.problem.code == "loss_not_finite"
    assert run.mailbox.store.exists(run.mailbox.prefix + CURVES_FILE)


def test_the_report_holds_every_image_and_no_figure(
    job: Job,  # noqa: F811
    mlflow_address: str,
) -> None:
    evaluated = recipe(CacheStage(presize=32), whole(1), EVALUATE, train_on="all")
    spec = tracked(put_version(job.store, mixed(), recipe=evaluated), mlflow_address, job)
    assert main([]) == ExitCode.done
    output = job.output_of_run()
    assert output.summary.splits == {}
    assert output.summary.conflicts == 1
    rows = read_all(job.store, output.report_keys["loss"])
    assert len(rows) == 22
    assert {row.split for row in rows} == {"train", "valid", "test"}
    losses = [row.loss for row in rows if row.loss is not None]
    # All are training losses: no split comes before another.
    assert len(losses) == 21
    assert losses == sorted(losses, reverse=True)
    assert len(read_all(job.store, output.report_keys["label_issue"])) == 22
    assert spec.tracking is not None
    says_so_in_mlflow(spec.tracking.run_id)


def says_so_in_mlflow(run: str) -> None:
    """The page has words, and no figure, plot or table of images that were held out."""
    client = MlflowClient()
    told = client.get_run(run).data
    assert told.params["train_on"] == "all"
    assert told.tags["mlflow.note.content"].startswith("**No error is measured:**")
    assert {"epoch/train_loss", "step/loss"} <= set(told.metrics)
    of_splits = ("valid/", "train/", "test/", "epoch/valid", "epoch/error")
    assert not [name for name in told.metrics if name.startswith(of_splits)]
    files = [entry.path for at in ("plots", "tables") for entry in client.list_artifacts(run, at)]
    assert sorted(files) == [
        "plots/1-losses.png",
        "plots/2-rates.png",
        "plots/4-top-losses.png",
        "tables/epochs.csv",
    ]


def test_early_stopping_is_refused_by_the_job_too(job: Job) -> None:  # noqa: F811
    stopping = whole(2, early_stopping=EarlyStopping(patience=1))
    spec = put_version(
        job.store,
        mixed(),
        recipe=recipe(CacheStage(presize=32), stopping, EVALUATE, train_on="all"),
    )
    put_spec(job.store, spec)
    problem = refused(job)
    assert (problem.code, problem.field, problem.value) == (
        "recipe_not_whole", "recipe.train_on", "all",
    )  # fmt: skip
    assert "'whole' stops early" in problem.detail


@pytest.mark.long
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    # Batches of seven: what would be left over of eight is too few for steady statistics.
    everything = GENTLE.model_copy(update={"train_on": "all", "batch_size": 7})
    spec = put_version(store, mixed(), recipe=everything)
    spec = spec.model_copy(update={"nodes": 2})
    put_spec(store, spec)
    run = open_run(store, spec, folder=tmp_path / "alone")
    expected = fit_all(run, model_of(run))
    run.checkpoints.clear()
    first, second = trained(store.url, tmp_path, what="fit", count=2)
    # 21 pictures in batches of seven, two epochs.
    assert len(first["losses"]) == 6
    assert len(first["valid"]) == 0
    torch.testing.assert_close(first["losses"], expected["losses"], rtol=1e-3, atol=0)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
