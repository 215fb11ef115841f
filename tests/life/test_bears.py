"""The lesson's bears, really imported: the photograph that two people named differently."""

import hashlib
from pathlib import Path

import pytest

from bearloop.cli.images import upload_folder
from bearloop.client import Client
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import CacheStage, EvaluateStage, FitStage, Recipe
from tests.house.source import ROOT

DATA = ROOT.parent / "shared" / "data"
BEARS, WEIGHTS = DATA / "bears", DATA / "weights" / "resnet18.pth.xz"


@pytest.mark.skipif(not BEARS.is_dir(), reason="needs the photographs of bears")
def test_the_bear_with_two_labels_is_first_in_the_review(client: Client) -> None:
    twice = BEARS / "black" / "00000169.jpg"
    assert twice.read_bytes() == (BEARS / "grizzly" / "00000122.jpg").read_bytes()
    sha256 = hashlib.sha256(twice.read_bytes()).hexdigest()

    client.datasets.create("bears")
    started = client.datasets.start_import("bears", upload_folder(client, "bears", BEARS))
    ended = client.datasets.wait_for_import("bears", started.number)
    assert (ended.stored, ended.refused, ended.conflicts) == (477, 0, 1)
    (conflict,) = client.datasets.images("bears", state="conflict")
    assert conflict["sha256"] == sha256
    claims = client.connection.get(
        f"/v1/projects/{client.project}/datasets/bears/images/{sha256}/history"
    )
    assert {event["class_name"] for event in claims["items"]} == {"black", "grizzly"}

    version = client.datasets.freeze("bears")
    recipe = quick(WEIGHTS).model_dump(mode="json")
    (run,) = client.runs.start("bears", version.number, recipe=recipe, device="cpu")
    client.runs.wait(run.number)
    # Three classes by chance would be wrong two times in three.
    assert client.runs.report(run.number).splits["valid"].error.high < 0.4
    review = client.reviews.open(run.number)
    screen = client.reviews.claim(review.number)
    assert (screen.images[0].sha256, screen.images[0].label) == (sha256, None)


def quick(weights: Path) -> Recipe:
    """One epoch of the head on small pictures."""
    return Recipe(
        name="quick",
        model="resnet18",
        weights=weights.as_uri(),
        preprocess=Preprocess(size=96),
        batch_size=16,
        stages=(
            CacheStage(presize=112),
            FitStage(name="head", epochs=1, lr=3e-3, frozen_to=-1),
            EvaluateStage(tta_views=0, folds=2),
        ),
    )
