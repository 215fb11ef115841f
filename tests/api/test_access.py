"""Who may call: tokens, roles, and what an outsider learns."""

from collections.abc import Callable
from datetime import timedelta

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from api.access import COOKIE
from api.database import Database
from api.tables import Token
from api.tokens import looks_right, new_token

Callers = Callable[[str], TestClient]


def test_the_program_lives(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_anonymous_gets_401_with_the_way_out(app: FastAPI) -> None:
    with TestClient(app) as anonymous:
        answer = anonymous.get("/v1/projects")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Bearer" in answer.json()["way_out"]


def test_a_mistyped_token_is_told_from_its_checksum() -> None:
    token = new_token()
    assert looks_right(token)
    wrong = "0" if token[10] != "0" else "1"
    assert not looks_right(token[:10] + wrong + token[11:])
    assert not looks_right("")


def test_a_revoked_token_is_worthless_at_once(callers: Callers) -> None:
    viewer = callers("viewer")
    made = viewer.post("/v1/tokens", json={"name": "laptop"}).json()
    laptop = TestClient(viewer.app, headers={"Authorization": f"Bearer {made['token']}"})
    assert laptop.get("/v1/projects").status_code == 200
    assert viewer.delete(f"/v1/tokens/{made['id']}").status_code == 204
    assert laptop.get("/v1/projects").status_code == 401


def test_an_expired_token_is_worthless(callers: Callers, database: Database) -> None:
    viewer = callers("viewer")
    with database.transaction() as session:
        session.execute(update(Token).values(expires_at=func.now() - timedelta(seconds=1)))
    assert viewer.get("/v1/projects").status_code == 401


def test_a_token_cannot_make_one_that_may_do_more(callers: Callers) -> None:
    admin = callers("admin")
    made = admin.post("/v1/tokens", json={"name": "ci", "max_role": "viewer"}).json()
    narrow = TestClient(admin.app, headers={"Authorization": f"Bearer {made['token']}"})
    answer = narrow.post("/v1/tokens", json={"name": "more", "max_role": "admin"})
    assert answer.status_code == 403
    assert answer.json()["field"] == "max_role"
    role = narrow.get("/v1/projects").json()["items"][0]["role"]
    assert narrow.get("/v1/projects/zoo/audit").status_code == 403, role


def test_a_limited_token_ends_none_that_may_do_more(callers: Callers) -> None:
    admin = callers("admin")
    limits = (
        {},
        {"max_role": "viewer"},
        {"project": "zoo"},
        {"project": "zoo", "max_role": "viewer"},
    )
    made = [admin.post("/v1/tokens", json={"name": "ci", **limit}).json() for limit in limits]
    for own, ends in ((3, {3}), (2, {2, 3}), (1, {1, 3})):
        caller = TestClient(admin.app, headers={"Authorization": f"Bearer {made[own]['token']}"})
        for other in set(range(4)) - ends:
            answer = caller.delete(f"/v1/tokens/{made[other]['id']}")
            assert (answer.status_code, answer.json()["code"]) == (404, "token_not_found")
    assert caller.delete(f"/v1/tokens/{made[3]['id']}").status_code == 204
    assert caller.delete(f"/v1/tokens/{made[1]['id']}").status_code == 204


def test_a_cookie_changes_nothing_for_a_page_of_another_origin(callers: Callers) -> None:
    admin = callers("admin")
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    browser = TestClient(admin.app, cookies={COOKIE: token})
    assert browser.get("/v1/projects").status_code == 200
    for headers in ({}, {"Origin": "http://testserver:8080"}, {"Origin": "null"}):
        answer = browser.post("/v1/tokens", json={"name": "stolen"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    own = {"Origin": "http://testserver"}
    assert browser.post("/v1/tokens", json={"name": "mine"}, headers=own).status_code == 201


def test_only_the_platform_makes_tokens_for_others(callers: Callers) -> None:
    body = {"name": "theirs", "subject": "viewer"}
    assert callers("admin").post("/v1/tokens", json=body).status_code == 403
    assert callers("platform").post("/v1/tokens", json=body).status_code == 201


def test_an_outsider_does_not_learn_that_a_project_exists(callers: Callers) -> None:
    outsider = callers("stranger")
    theirs = outsider.get("/v1/projects/zoo/members")
    nobodys = outsider.get("/v1/projects/moon/members")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["code"] == nobodys.json()["code"]


def test_the_last_admin_stays(callers: Callers) -> None:
    admin = callers("admin")
    refused = admin.put("/v1/projects/zoo/members/admin", json={"role": "viewer"})
    assert refused.status_code == 409
    assert refused.json()["code"] == "last_admin"
    admin.put("/v1/projects/zoo/members/viewer", json={"role": "admin"})
    assert admin.delete("/v1/projects/zoo/members/admin").status_code == 204


def test_what_was_done_stands_in_the_audit_record(callers: Callers) -> None:
    admin = callers("admin")
    admin.put("/v1/projects/zoo/members/eve", json={"role": "reviewer"})
    newest = admin.get("/v1/projects/zoo/audit").json()["items"][0]
    assert newest["actor"] == "admin"
    assert newest["action"] == "member.set_role"
    assert newest["target"] == "members/eve"
