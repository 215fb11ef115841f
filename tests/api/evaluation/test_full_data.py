"""What a run on all images says: every image, no figure, and where the figures are."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import ON_ALL, Trained, add_run, bears, train

RUNS = "/v1/projects/zoo/runs"
FULL = f"{RUNS}/2"
COMMAND = "bearloop train bears --version 1 --recipe full-data --train-on train --seed 7"


@pytest.fixture
def twins(database: Database, store: FolderStore, project: Project) -> Trained:
    """Run 1 is the twin of run 2."""
    kept = train(database, store, project, bears(30))
    return add_run(database, store, kept, recipe=ON_ALL)


@pytest.fixture
def alone(database: Database, store: FolderStore, project: Project) -> Trained:
    """Run 2 has other steps than run 1."""
    other = ON_ALL.model_copy(update={"batch_size": 8})
    return add_run(database, store, train(database, store, project, bears(30)), recipe=other)


def refused(client: TestClient, path: str, status: int = 404) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("what", ["confusion", "most-confused", "spread"])
@pytest.mark.parametrize("split", ["", "?split=valid", "?split=test", "?split=train"])
def test_figures_are_those_of_its_twin(
    client: TestClient, twins: Trained, what: str, split: str
) -> None:
    problem = refused(client, f"{FULL}/{what}{split}")
    assert (problem["code"], problem["field"]) == ("empty_split", "split")
    assert "run 2 was trained on all images of version 1" in problem["detail"]
    assert problem["way_out"] == "look at its twin, run 1, whose splits were kept"
    assert client.get(f"{RUNS}/1/{what}{split}").status_code == 200


def test_without_a_twin_the_way_out_trains_one(client: TestClient, alone: Trained) -> None:
    for what in ("confusion", "most-confused", "spread"):
        assert COMMAND in refused(client, f"{FULL}/{what}")["way_out"]
    assert COMMAND in refused(client, f"{RUNS}/compare?a=1&b=2", 422)["way_out"]
    assert client.get(f"{FULL}/report").json()["twin"] is None


@pytest.mark.parametrize(("a", "b", "field"), [(1, 2, "b"), (2, 1, "a"), (2, 2, "a")])
def test_it_is_compared_with_nothing(
    client: TestClient, twins: Trained, a: int, b: int, field: str
) -> None:
    problem = refused(client, f"{RUNS}/compare?a={a}&b={b}", 422)
    assert (problem["code"], problem["field"], problem["value"]) == ("not_comparable", field, 2)
    assert "run 1" in problem["way_out"]


def test_its_report_names_the_twin_and_has_no_figure(client: TestClient, twins: Trained) -> None:
    report = client.get(f"{FULL}/report").json()
    assert (report["train_on"], report["twin"], report["splits"]) == ("all", 1, {})
    assert report["too_small"] is None
    kept = client.get(f"{RUNS}/1/report").json()
    assert (kept["train_on"], kept["twin"]) == ("train", None)
    assert set(kept["splits"]) == {"train", "valid", "test"}
    assert client.get(FULL).json()["metrics"] == {}
    assert client.get(f"{FULL}/diagnosis").json()["findings"] == []
    assert client.get(f"{RUNS}/1/diagnosis").json()["findings"]


def test_its_seeds_have_no_spread_and_widen_nobody_s(
    client: TestClient, database: Database, store: FolderStore, twins: Trained
) -> None:
    add_run(database, store, twins, seed=8, recipe=ON_ALL)
    assert [seed["run"] for seed in client.get(f"{RUNS}/1/spread").json()["seeds"]] == [1]


def test_its_images_are_listed_and_reviewed(client: TestClient, twins: Trained) -> None:
    for order in ("loss", "label_issue"):
        page = client.get(f"{FULL}/images?order={order}&limit=100").json()
        assert len(page["items"]) == 30
    opened = client.post(
        "/v1/projects/zoo/reviews", json={"run": 2, "order": "loss", "splits": ["train"]}
    )
    assert opened.status_code == 201, opened.text
    assert opened.json()["images"] == sum(one.split == "train" for one in bears(30))
    assert client.get(f"{FULL}/noise").status_code == 200
