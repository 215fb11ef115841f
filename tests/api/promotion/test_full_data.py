"""A model that saw all images is promoted on what its twin, whose splits were kept, is worth."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.runs.named_recipes import FINE_TUNE, FULL_DATA
from api.runs.recipes import Changes, changed
from api.tables import JobState
from tests.api.promotion.cluster import FakeCluster
from tests.api.promotion.zoo import Zoo, by_hash

BEARS = "/v1/projects/zoo/endpoints/bears"
RIGHT: Mapping[int, float] = {70: 0.8, 3: 0.1, 12: 0.1}
WRONG: Mapping[int, float] = {70: 0.1, 3: 0.8, 12: 0.1}
COMPARED = [
    {"kind": "not-worse-than-champion"},
    {"kind": "no-class-falls", "by": 0.5},
    # These reports are made up: no server says what stands in them.
    {"kind": "parity", "tolerance": 1, "margin": 1},
]
PICTURES = [(f"held out {n}".encode(), "valid", 70) for n in range(12)]


@pytest.fixture
def promoter(callers: Callable[[str], TestClient]) -> TestClient:
    client = callers("promoter")
    client.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    return client


def promoted(client: TestClient, zoo: Zoo, cluster: FakeCluster, run: int) -> dict[str, Any]:
    """Promote a run, and return what became of it."""
    answer = client.post(BEARS + "/promotions", json={"run": run})
    assert answer.status_code == 202, answer.text
    zoo.settle(cluster)
    return dict(client.get(answer.headers["location"]).json())


def test_without_a_twin_it_is_refused_with_the_command_that_trains_one(
    zoo: Zoo, promoter: TestClient
) -> None:
    full = zoo.add_run("d1", recipe=FULL_DATA, seed=5)
    zoo.add_run("d2", recipe=changed(FINE_TUNE, Changes(epochs=9)), seed=5)
    zoo.add_run("d3", recipe=FULL_DATA, seed=6)
    zoo.add_run("d4", seed=5, state=JobState.running)
    answer = promoter.post(BEARS + "/promotions", json={"run": full})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "no_twin")
    assert (problem["field"], problem["value"]) == ("run", full)
    assert "trained on all images of version 1" in problem["detail"]
    command = "bearloop train bears --version 1 --recipe full-data --train-on train --seed 5"
    assert f"on version 1 with its splits kept: `{command}`" in problem["way_out"]
    assert zoo.states() == []
    zoo.add_run("d5", seed=9)
    assert promoter.post(BEARS + "/promotions", json={"run": full}).status_code == 202


def test_a_twin_that_misses_the_bar_refuses_it_and_is_named(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": [{"kind": "minimum", "at_most": 0.05}]})
    twin = zoo.add_run("d1", error=0.1)
    shown = promoted(promoter, zoo, cluster, zoo.add_run("d2", error=0.0, recipe=FULL_DATA))
    assert shown["state"] == "refused"
    words = "error on 40 valid images is 0.1, more than 0.05"
    assert shown["reason"] == f"of run {twin}, its twin with splits kept: {words}"
    assert [(r["name"], r["passed"]) for r in shown["results"]] == [
        ("minimum", False),
        ("parity", True),
    ]


def test_a_twin_that_passes_promotes_it_and_parity_is_asked_of_its_own_bundle(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": [{"kind": "minimum", "at_most": 0.1}]})
    # What the twin's report says of the images is not what the server of this bundle answers.
    twin = zoo.add_run("d1", error=0.1, predict=lambda _: WRONG)
    full = zoo.add_run("d2", error=0.9, recipe=FULL_DATA)
    shown = promoted(promoter, zoo, cluster, full)
    assert (shown["state"], shown["bundle"]) == ("live", "d2"), shown["reason"]
    minimum, parity = shown["results"]
    assert minimum["words"].startswith(f"of run {twin}, its twin with splits kept: error on 40")
    assert minimum["seen"] == {"value": 0.1, "images": 40}
    assert parity["seen"]["images"] == 16
    assert "twin" not in parity["words"]


def test_parity_asks_of_images_that_it_was_trained_on(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    trained = [(f"seen {n}".encode(), "train", 70) for n in range(8)]
    zoo.add_run("d1", pictures=[*trained, *PICTURES])
    cluster.shift("d2", 0.01)
    full = zoo.add_run("d2", pictures=[(b"a conflict", "valid", None), *trained], recipe=FULL_DATA)
    shown = promoted(promoter, zoo, cluster, full)
    assert shown["state"] == "refused"
    (parity,) = shown["results"]
    # All eight, and not the conflict.
    assert parity["seen"]["images"] == 8
    assert parity["seen"]["largest_difference"] == pytest.approx(0.01, abs=1e-6)


def test_against_a_champion_its_twin_is_compared(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": COMPARED})
    longer = changed(FINE_TUNE, Changes(epochs=9))
    champion = zoo.add_run("d1", pictures=list(PICTURES), predict=lambda _: RIGHT)
    assert promoted(promoter, zoo, cluster, champion)["state"] == "live"
    # It learnt the images by heart; its twin knows none of them.
    twin = zoo.add_run("d2", pictures=list(PICTURES), predict=lambda _: WRONG, recipe=longer)
    full = zoo.add_run(
        "d3",
        pictures=list(PICTURES),
        predict=lambda _: RIGHT,
        recipe=changed(longer, Changes(train_on="all")),
    )
    shown = promoted(promoter, zoo, cluster, full)
    assert shown["state"] == "refused"
    worse, falls, _ = shown["results"]
    assert (worse["seen"]["images"], worse["seen"]["broken"]) == (12, 12)
    for result in (worse, falls):
        assert not result["passed"]
        assert result["words"].startswith(f"of run {twin}, its twin with splits kept: ")


def test_a_champion_that_saw_all_images_is_compared_by_its_twin_too(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": COMPARED})
    half = {picture for picture, _, _ in PICTURES[:6]}
    twin = zoo.add_run(
        "d1", pictures=list(PICTURES), predict=lambda p: RIGHT if p in half else WRONG
    )
    # By what it learnt by heart nobody could beat it.
    full = zoo.add_run("d2", pictures=list(PICTURES), predict=lambda _: RIGHT, recipe=FULL_DATA)
    assert promoted(promoter, zoo, cluster, full)["state"] == "live"
    challenger = zoo.add_run(
        "d3",
        pictures=list(PICTURES),
        predict=lambda p: RIGHT if p in half or p.endswith(b"7") else WRONG,
        recipe=changed(FINE_TUNE, Changes(epochs=9)),
    )
    shown = promoted(promoter, zoo, cluster, challenger)
    assert shown["state"] == "live", shown["reason"]
    worse = shown["results"][0]
    assert (worse["seen"]["fixed"], worse["seen"]["broken"]) == (1, 0)
    assert worse["words"].startswith(f"against run {twin}, the live model's twin: on the same 12")


def test_a_first_promotion_is_compared_with_nobody(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": COMPARED[:1]})
    zoo.add_run("d1", predict=by_hash)
    shown = promoted(promoter, zoo, cluster, zoo.add_run("d2", recipe=FULL_DATA))
    assert shown["state"] == "live"
    assert shown["results"][0]["skipped"]
