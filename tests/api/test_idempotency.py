"""A POST that is sent again with its Idempotency-Key."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fastapi.testclient import TestClient

Callers = Callable[[str], TestClient]


def test_the_same_post_again_gets_the_same_answer_and_does_nothing(callers: Callers) -> None:
    platform = callers("platform")
    headers = {"Idempotency-Key": "first"}
    made = platform.post("/v1/projects", json={"name": "farm"}, headers=headers)
    again = platform.post("/v1/projects", json={"name": "farm"}, headers=headers)
    assert made.status_code == again.status_code == 201
    assert made.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    names = [item["name"] for item in platform.get("/v1/projects").json()["items"]]
    assert names.count("farm") == 1


def test_without_the_key_the_second_post_is_refused(callers: Callers) -> None:
    platform = callers("platform")
    platform.post("/v1/projects", json={"name": "farm"})
    again = platform.post("/v1/projects", json={"name": "farm"})
    assert again.status_code == 409
    assert again.json()["code"] == "project_exists"
    assert again.json()["field"] == "name"


def test_a_key_is_for_one_request_only(callers: Callers) -> None:
    platform = callers("platform")
    headers = {"Idempotency-Key": "first"}
    platform.post("/v1/projects", json={"name": "farm"}, headers=headers)
    other = platform.post("/v1/projects", json={"name": "barn"}, headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_a_refused_post_leaves_its_key_free(callers: Callers) -> None:
    platform = callers("platform")
    headers = {"Idempotency-Key": "first"}
    refused = platform.post("/v1/projects", json={"name": "Not A Name"}, headers=headers)
    made = platform.post("/v1/projects", json={"name": "farm"}, headers=headers)
    assert refused.status_code == 422
    assert made.status_code == 201


def test_eight_posts_at_once_do_the_work_once(callers: Callers) -> None:
    platform = callers("platform")

    def post(_: int) -> int:
        body = {"name": "robot", "days": 1}
        answer = platform.post("/v1/tokens", json=body, headers={"Idempotency-Key": "k"})
        return int(answer.json()["id"])

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(post, range(8)))
    assert len(ids) == 1
    made = [t for t in platform.get("/v1/tokens").json()["items"] if t["name"] == "robot"]
    assert len(made) == 1
