"""A POST that is sent again with its Idempotency-Key."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from api.database import Database
from api.idempotency import forget_answers
from api.tables import IdempotencyKey

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


def test_an_answer_is_forgotten_after_a_day(callers: Callers, database: Database) -> None:
    platform = callers("platform")
    for name in ("old", "new"):
        platform.post("/v1/tokens", json={"name": name}, headers={"Idempotency-Key": name})
    with database.transaction() as session:
        kept = session.scalars(select(IdempotencyKey)).all()
        assert sorted(row.key for row in kept) == ["new", "old"]
        old = update(IdempotencyKey).where(IdempotencyKey.key == "old")
        session.execute(old.values(created_at=func.now() - timedelta(days=1, seconds=1)))
    forget_answers(database)
    with database.transaction() as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["new"]


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
