"""Bad input over REST: each is refused by field, value and way out, and nothing good is lost."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from api.database import Database
from api.tables import Job, Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Trained, bears, sha, train
from tests.api.review.reviewing import claim, decide, expire, get

ZOO = "/v1/projects/zoo"
BEARS = f"{ZOO}/datasets/bears"


@pytest.fixture
def trained(database: Database, store: FolderStore, project: Project) -> Trained:
    """Run 1 on version 1 of 12 bears."""
    return train(database, store, project, bears(12))


def refused(answer: Any, status: int, code: str, field: str, value: Any = ...) -> Any:
    """Hold an answer to be this problem; return it."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["field"] == field
    assert value is ... or problem["value"] == value, problem
    assert problem["way_out"]
    return problem


def test_an_unknown_class(client: TestClient, trained: Trained) -> None:
    image = f"{BEARS}/images/{sha('i00000')}"
    answer = client.post(f"{image}/label", json={"class": "polar"})
    problem = refused(answer, 404, "unknown_class", "class", "polar")
    assert "black" in problem["detail"] + problem["way_out"]
    assert client.get(image).json()["class_name"] == "black"


def test_an_unknown_image(client: TestClient, trained: Trained) -> None:
    nobody = "f" * 64
    refused(client.get(f"{BEARS}/images/{nobody}"), 404, "unknown_image", "sha", nobody)
    client.post(f"{ZOO}/reviews", json={"run": 1})
    screen = claim(client)
    body = {"decisions": [{"sha256": nobody, "verb": "keep"}]}
    path = f"{ZOO}/reviews/1/screens/{screen['screen']}/decisions"
    refused(client.post(path, json=body), 422, "not_on_screen", "sha256", nobody)
    assert claim(client)["screen"] == screen["screen"]


def test_an_empty_dataset_and_an_empty_class(client: TestClient, trained: Trained) -> None:
    client.post(f"{ZOO}/datasets", json={"name": "empty"})
    answer = client.post(f"{ZOO}/datasets/empty/versions")
    refused(answer, 422, "no_images", "images", 0)
    remove(client, trained, lambda image: image.label == 2)
    refused(client.post(f"{BEARS}/versions"), 422, "empty_class", "class", "teddy")
    assert len(client.get(f"{BEARS}/versions").json()["items"]) == 1


def test_one_class_only(client: TestClient, trained: Trained) -> None:
    black, *others = trained.classes
    for other in others:
        client.post(f"{BEARS}/classes/{other}/merge", json={"into": black})
    refused(client.post(f"{BEARS}/versions"), 422, "one_class", "class", "black")


def test_no_valid_split(client: TestClient, trained: Trained) -> None:
    remove(client, trained, lambda image: image.label == 1 and image.split == "valid")
    refused(client.post(f"{BEARS}/versions"), 422, "no_valid_split", "class", "grizzly")
    assert client.get(f"{BEARS}/profile").json()["images"] > 0


def test_names_given_twice(client: TestClient, trained: Trained) -> None:
    again = client.post(f"{ZOO}/datasets", json={"name": "bears"})
    refused(again, 409, "dataset_exists", "name", "bears")
    black = trained.classes[0]
    renamed = client.patch(f"{BEARS}/classes/{black}", json={"name": "teddy"})
    refused(renamed, 409, "class_exists", "name", "teddy")
    client.post(f"{ZOO}/endpoints", json={"name": "bears"})
    endpoint = client.post(f"{ZOO}/endpoints", json={"name": "bears"})
    refused(endpoint, 409, "endpoint_exists", "name", "bears")
    urls = {"black": ["http://a/1.jpg"], " black ": ["http://a/2.jpg"]}
    listed = client.post(f"{BEARS}/imports", json={"kind": "urls", "urls": urls})
    refused(listed, 422, "bad_class_name", "urls")


def test_a_decision_on_a_screen_whose_lease_ran_out(
    callers: Callable[[str], TestClient], trained: Trained, database: Database
) -> None:
    slow, quick = callers("reviewer"), callers("admin")
    quick.post(f"{ZOO}/reviews", json={"run": 1})
    screen = claim(slow)
    decide(slow, screen, {0: "keep"})
    expire(database)
    decide(quick, claim(quick), {0: "remove"})
    body = {"decisions": [{"sha256": screen["images"][1]["sha256"], "verb": "keep"}]}
    path = f"{ZOO}/reviews/1/screens/{screen['screen']}/decisions"
    refused(slow.post(path, json=body), 409, "lease_expired", "screen")
    assert get(quick, "progress")["decided"] == 2


def test_closing_a_review_twice(client: TestClient, trained: Trained) -> None:
    client.post(f"{ZOO}/reviews", json={"run": 1})
    decide(client, claim(client), {0: "grizzly"})
    closed = client.post(f"{ZOO}/reviews/1/close")
    assert closed.status_code == 200, closed.text
    again = client.post(f"{ZOO}/reviews/1/close")
    refused(again, 409, "already_closed", "review", {"review": 1, "version": 2})
    assert client.get(f"{ZOO}/reviews/1").json()["cleaned_version"] == closed.json()["version"]


def test_promoting_a_failed_run(client: TestClient, trained: Trained, database: Database) -> None:
    with database.transaction() as session:
        session.execute(update(Job).values(state="failed"))
    client.post(f"{ZOO}/endpoints", json={"name": "bears"})
    answer = client.post(f"{ZOO}/endpoints/bears/promotions", json={"run": 1})
    problem = refused(answer, 409, "run_not_done", "run", 1)
    assert "failed" in problem["detail"]
    assert client.get(f"{ZOO}/endpoints/bears/promotions").json()["items"] == []


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ("file:///nowhere/resnet18.pth", "no_such_weights"),
        ("file:///etc/passwd", "wrong_recipe"),
        ("file:x.pth", "bad_address"),
        ("file://other.host/x.pth", "bad_address"),
        ("https://host/resnet18.pth", "wrong_recipe"),
        ("s3://somebody/else/resnet18.pth", "forbidden_address"),
        ("resnet18.pth", "wrong_recipe"),
    ],
)
def test_weights_that_are_not_there(
    client: TestClient, trained: Trained, weights: str, code: str
) -> None:
    assert client.post(f"{BEARS}/versions").status_code == 201
    body = {"dataset": "bears", "weights": weights}
    refused(client.post(f"{ZOO}/runs", json=body), 422, code, "recipe.weights", weights)
    assert len(client.get(f"{ZOO}/runs").json()["items"]) == 1


def test_an_unknown_dataset_version_and_recipe(client: TestClient, trained: Trained) -> None:
    assert client.post(f"{BEARS}/versions").status_code == 201
    for changed, status, code, field in (
        ({"dataset": "birds"}, 404, "unknown_dataset", "dataset"),
        ({"version": 9}, 404, "unknown_version", "version"),
        ({"recipe": "magic"}, 422, "unknown_recipe", "recipe"),
    ):
        answer = client.post(f"{ZOO}/runs", json={"dataset": "bears", **changed})
        refused(answer, status, code, field, next(iter(changed.values())))


def remove(client: TestClient, trained: Trained, chosen: Callable[[Any], bool]) -> None:
    """Remove images from what the next version holds."""
    for image in filter(chosen, trained.images):
        answer = client.post(f"{BEARS}/images/{image.sha256}/remove")
        assert answer.status_code == 200, answer.text
