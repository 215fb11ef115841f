"""What several processes find in stages of every kind, and answer, is what one finds."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision

from bearloop.contract import environment
from bearloop.contract.recipes import (
    CacheStage,
    CosineRestarts,
    EarlyStopping,
    EvaluateStage,
    FeaturesStage,
    LrFindStage,
)
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.team import fit_all_kinds, predict_all, trained
from tests.trainer.test_ranks import shared
from tests.trainer.versions import recipe, resnet, whole
from trainer.features import FOLDER

EVALUATE = EvaluateStage(folds=2, tta_views=1)
HEAD = whole(12, name="head", frozen_to=-1, lr=1.0, early_stopping=EarlyStopping(patience=1))
"""At this rate a head soon answers worse than before."""
CYCLES = whole(2, name="cycles", lr=1e-6, schedule=CosineRestarts(snapshots=True))
ALL_KINDS = recipe(
    CacheStage(presize=32), FeaturesStage(), LrFindStage(iterations=30), HEAD, CYCLES, EVALUATE
)


@pytest.mark.long
def test_searches_passes_stops_and_snapshots_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.CACHE, str(tmp_path / "cache"))
    store = FolderStore(tmp_path / "store")
    run = open_run(store, shared(store, ALL_KINDS), folder=tmp_path / "alone")
    expected = fit_all_kinds(run, model_of(run))
    run.checkpoints.clear()
    shutil.rmtree(tmp_path / "cache")

    first, second = trained(store.url, tmp_path, what="all kinds", count=2)
    same(first, second)
    # The search: at its lowest rates a rounding error stays one.
    torch.testing.assert_close(first["search"][:10], expected["search"][:10], rtol=1e-3, atol=0)
    # One of the two passed the pictures, and both learnt from what it made.
    (made,) = (tmp_path / "cache" / FOLDER).iterdir()
    assert sorted(file.name for file in made.iterdir()) == ["train-0.npy", "valid.npy"]
    torch.testing.assert_close(first["losses"][:1], expected["losses"][:1], rtol=1e-3, atol=0)
    # All stopped after one epoch, for the weights of one.
    heads = first["stages"].count("head")
    assert first["stages"] == ["head"] * heads + ["cycles"] * 2
    assert heads < HEAD.epochs
    assert first["kept"] == {"head": heads - 1}
    assert "'head' stopped" in first["notes"][0]
    # What the first kept of each cycle, all answer with.
    assert first["answers"].shape == (2, 3)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.long
def test_every_image_is_answered_for_as_one_process_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: bool
) -> None:
    monkeypatch.setenv(environment.CACHE, str(tmp_path / "cache"))
    store, weights = FolderStore(tmp_path / "store"), tmp_path / "resnet18.safetensors"
    if pretrained:
        safetensors.torch.save_file(torchvision.models.resnet18().state_dict(), weights)
    address = weights.as_uri() if pretrained else "none"
    judged = resnet(CacheStage(presize=32), whole(1), EVALUATE, weights=address)
    run = open_run(store, shared(store, judged), folder=tmp_path / "alone")
    expected = predict_all(run, model_of(run))

    first, second = trained(store.url, tmp_path, what="predict", count=2)
    same(first, second)
    # Nothing is augmented, so that views are those that one process takes too.
    for name, answers in expected.items():
        torch.testing.assert_close(first[name], answers, rtol=1e-3, atol=1e-4)
    assert bool((first["out_of_fold"].std(dim=0) > 0).all())


def same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Both processes found the same, to the bit."""
    assert first.keys() == second.keys()
    for name, found in first.items():
        other = second[name]
        assert torch.equal(found, other) if isinstance(found, torch.Tensor) else found == other
