"""The named recipes with pretrained weights, and networks of other families: trained, served."""

from pathlib import Path

import pytest

from bearloop.client import Client
from tests.house.source import ROOT
from tests.life.story import Trained, assert_answers_as_reported, await_run, promote

WEIGHTS = ROOT.parent / "shared" / "data" / "weights"
GATES = ({"kind": "parity", "images": 8},)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs pretrained weights"),
]


@pytest.mark.parametrize(
    ("recipe", "model", "size"),
    [
        ("fine-tune", "mobilenet_v2", 64),
        ("fine-tune", "resnet50", 32),
        ("frozen-then-discriminative", "resnet18", 64),
        ("precompute", "resnet18", 64),
        ("progressive-resize", "resnet18", 96),
        ("warm-restarts", "resnet18", 64),
    ],
)
def test_a_recipe_is_trained_and_served(
    client: Client, trained: Trained, recipe: str, model: str, size: int
) -> None:
    weights = Path(WEIGHTS, f"{model}.pth.xz").as_uri()
    (run,) = client.runs.start(
        "shapes", 1, recipe=recipe, model=model, weights=weights, size=size, device="cpu"
    )
    assert await_run(client, run.number)
    # Three classes by chance would be wrong two times in three.
    assert client.runs.report(run.number).splits["test"].error.value < 0.4
    endpoint = f"{recipe}-{model}".replace("_", "-")
    client.endpoints.create(endpoint, gates=GATES)
    token = client.endpoints.create_token(endpoint, "shop")
    promote(client, endpoint, run.number)
    assert_answers_as_reported(client, endpoint, run=run.number, shapes=trained.shapes, token=token)
