"""The snapshot ensemble: kept at each cycle's end, and one model from then on."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from bearloop.bundle import bundle_prefix, load_bundle
from bearloop.contract.jobs import checkpoint_prefix
from bearloop.contract.recipes import SIDE_ON, CacheStage, CosineRestarts, EvaluateStage
from tests.trainer.test_fit import LeavesAfter, fitted, same_weights, small_run
from tests.trainer.versions import recipe, whole
from trainer.errors import InterruptedRunError
from trainer.evaluate import logits, softmax
from trainer.export import export_bundle
from trainer.report import Predictions
from trainer.run import Run
from trainer.snapshots import Ensemble, answering

CYCLES = recipe(
    CacheStage(presize=36),
    whole(3, schedule=CosineRestarts(cycle_mult=2, snapshots=True)),
    EvaluateStage(folds=2, tta_views=1),
    augment=SIDE_ON,
)


def answers(run: Run, model: torch.nn.Module) -> np.ndarray:
    rows = range(len(run.items))
    preprocess = run.spec.recipe.preprocess
    return logits(
        model, run.evaluation, rows, device=run.device, preprocess=preprocess, batch_size=8
    )


def members(run: Run, model: torch.nn.Module) -> list[torch.nn.Module]:
    ensemble = answering(run, model)
    assert isinstance(ensemble, Ensemble)
    return list(ensemble.members)


@pytest.mark.long
def test_the_ensemble_is_the_mean_of_each_cycle_s_end_down_to_its_bundle(tmp_path: Path) -> None:
    run = small_run(tmp_path, CYCLES)
    model, _ = fitted(run)
    first, last = members(run, model)
    assert same_weights(last, model)
    assert not same_weights(first, model)
    mean = (softmax(answers(run, first)) + softmax(answers(run, last))) / 2

    ensemble = answering(run, model)
    unseen = np.full((len(run.items), 3), 1 / 3, dtype=np.float32)
    predictions = Predictions(run.items, run.spec.classes, answers(run, ensemble), None, unseen)
    np.testing.assert_allclose(predictions.probabilities, mean, atol=1e-6)
    store = run.mailbox.store
    bundle = export_bundle(
        store, run.spec, ensemble, pixels=run.evaluation, predictions=predictions
    )
    session = onnxruntime.InferenceSession(bundle.onnx)
    golden = load_bundle(store, bundle_prefix(bundle.digest)).card.golden
    places = [[item.sha256 for item in run.items].index(entry.sha256) for entry in golden]
    inputs = run.evaluation.gather(places).astype(np.float32).transpose(0, 3, 1, 2) / 255
    mean_of, std = np.array(CYCLES.preprocess.mean), np.array(CYCLES.preprocess.std)
    pixels = (inputs - mean_of.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    (found,) = session.run(["logits"], {"pixels": pixels.astype(np.float32)})
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(found), mean[places], atol=1e-4)

    run.checkpoints.clear()
    assert not list(store.list(checkpoint_prefix(run.spec.job)))


def test_a_run_that_left_between_two_cycles_keeps_the_same_snapshots(tmp_path: Path) -> None:
    straight = small_run(tmp_path, CYCLES, job="job-2")
    expected = members(straight, fitted(straight)[0])
    with pytest.raises(InterruptedRunError):
        fitted(small_run(tmp_path, CYCLES, interruption=LeavesAfter(5)))
    back = small_run(tmp_path, CYCLES)
    resumed = back.checkpoints.newest()
    assert resumed is not None
    assert resumed.state.epoch >= 1
    found = members(back, fitted(back)[0])
    assert all(same_weights(one, other) for one, other in zip(found, expected, strict=True))


def test_without_snapshots_the_trained_model_answers_itself(tmp_path: Path) -> None:
    plain = recipe(CacheStage(presize=32), whole(1), EvaluateStage(folds=2, tta_views=0))
    run = small_run(tmp_path, plain)
    model, _ = fitted(run)
    assert answering(run, model) is model
