"""Endpoints and promotions over REST: who may, what comes back, what is refused and why."""

import hashlib
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.database import Database
from api.tables import AuditEvent, EndpointToken, JobState
from api.tokens import looks_right
from tests.api.promotion.cluster import FakeCluster
from tests.api.promotion.zoo import Zoo

Callers = Callable[[str], TestClient]
ENDPOINTS = "/v1/projects/zoo/endpoints"
BEARS = ENDPOINTS + "/bears"
MATRIX = [
    # method, path, body, least role
    ("GET", ENDPOINTS, None, "viewer"),
    ("POST", ENDPOINTS, {"name": "wolves"}, "promoter"),
    ("GET", BEARS, None, "viewer"),
    ("PATCH", BEARS, {"gates": []}, "promoter"),
    ("GET", BEARS + "/status", None, "viewer"),
    ("GET", BEARS + "/tokens", None, "promoter"),
    ("POST", BEARS + "/tokens", {"name": "shop"}, "promoter"),
    ("DELETE", BEARS + "/tokens/1", None, "promoter"),
    ("GET", BEARS + "/promotions", None, "viewer"),
    ("GET", BEARS + "/promotions/1", None, "viewer"),
    ("POST", BEARS + "/promotions", {"run": 1}, "promoter"),
    ("POST", BEARS + "/rollback", None, "promoter"),
    ("DELETE", BEARS, None, "promoter"),
]
ROLES = ["viewer", "reviewer", "trainer", "promoter", "admin"]


@pytest.fixture
def promoter(callers: Callers) -> TestClient:
    client = callers("promoter")
    assert client.post(ENDPOINTS, json={"name": "bears"}).status_code == 201
    return client


@pytest.fixture
def cluster_app(app: FastAPI) -> FastAPI:
    """The same app, as it runs on Kubernetes."""
    app.state.settings = app.state.settings.model_copy(update={"cluster": "kubernetes"})
    return app


def test_a_role_opens_what_it_should_and_no_more(callers: Callers, app: FastAPI) -> None:
    callers("promoter").post(ENDPOINTS, json={"name": "bears"})
    clients = {role: callers(role) for role in ROLES}
    outsider, anonymous = callers("nobody"), TestClient(app)
    for method, path, body, least in MATRIX:
        assert anonymous.request(method, path, json=body).status_code == 401
        assert outsider.request(method, path, json=body).status_code == 404
        for role, client in clients.items():
            answer = client.request(method, path, json=body)
            allowed = ROLES.index(role) >= ROLES.index(least)
            assert (answer.status_code != 403) is allowed, (role, method, path, answer.text)


def test_a_new_endpoint_has_the_parity_gate_and_serves_nothing(promoter: TestClient) -> None:
    shown = promoter.get(BEARS).json()
    assert [gate["kind"] for gate in shown["gates"]] == ["parity"]
    assert (shown["public"], shown["bundle"], shown["ready"], shown["url"]) == (
        False,
        None,
        False,
        None,
    )
    assert promoter.get(ENDPOINTS).json()["items"] == [shown]


def test_endpoints_come_in_pages_by_name(promoter: TestClient) -> None:
    for name in ("wolves", "ants"):
        promoter.post(ENDPOINTS, json={"name": name})
    first = promoter.get(ENDPOINTS, params={"limit": 2}).json()
    assert [entry["name"] for entry in first["items"]] == ["ants", "bears"]
    rest = promoter.get(ENDPOINTS, params={"cursor": first["next"]}).json()
    assert [entry["name"] for entry in rest["items"]] == ["wolves"]
    assert rest["next"] is None


def test_a_name_that_is_no_dns_label_is_refused(promoter: TestClient) -> None:
    for name in ("Bears", "1bear", "-b", "b-", "a" * 41, "", "b.c"):
        answer = promoter.post(ENDPOINTS, json={"name": name})
        assert answer.status_code == 422, name
        assert answer.json()["field"] == "body.name"


def test_a_name_is_given_once(promoter: TestClient) -> None:
    answer = promoter.post(ENDPOINTS, json={"name": "bears"})
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_exists")


def test_gates_change_only_for_who_saw_the_newest(promoter: TestClient) -> None:
    tag = promoter.get(BEARS).headers["etag"]
    gates = [{"kind": "minimum", "at_most": 0.2}]
    changed = promoter.patch(BEARS, json={"gates": gates}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert [gate["kind"] for gate in changed.json()["gates"]] == ["minimum", "parity"]
    assert changed.headers["etag"] == promoter.get(BEARS).headers["etag"] != tag
    late = promoter.patch(BEARS, json={"gates": []}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "endpoint_changed")
    assert len(promoter.get(BEARS).json()["gates"]) == 2


def test_an_endpoint_is_given_a_size_and_another(
    promoter: TestClient, cluster_app: FastAPI, database: Database
) -> None:
    made = promoter.post(ENDPOINTS, json={"name": "wolves", "replicas": 2, "memory": "2Gi"}).json()
    size = {"replicas": 2, "most_replicas": None, "cpu": None, "memory": "2Gi"}
    assert made.items() >= size.items()
    wolves = ENDPOINTS + "/wolves"
    tag = promoter.get(wolves).headers["etag"]
    asked = {"most_replicas": 6, "cpu": 0.5, "memory": None}
    changed = promoter.patch(wolves, json=asked, headers={"If-Match": tag})
    assert changed.json().items() >= {"replicas": 2, **asked}.items()
    assert changed.json()["gates"] == made["gates"]
    late = promoter.patch(wolves, json={"replicas": 3}, headers={"If-Match": tag})
    assert late.json()["code"] == "endpoint_changed"
    with database.transaction() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.detail["after"]) == ("endpoint.resize", asked)
    assert event.detail["before"] == {"most_replicas": None, "cpu": None, "memory": "2Gi"}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"replicas": 0}, "body.replicas"),
        ({"replicas": 101}, "body.replicas"),
        ({"replicas": None}, "body.replicas"),
        ({"gates": None}, "body.gates"),
        ({"most_replicas": 0}, "body.most_replicas"),
        ({"replicas": 3, "most_replicas": 2}, "most_replicas"),
        ({"cpu": 0}, "body.cpu"),
        ({"cpu": 1000}, "body.cpu"),
        ({"memory": "2 gigabytes"}, "body.memory"),
        ({"size": 3}, "body.size"),
    ],
)
def test_a_size_that_cannot_be_is_refused_by_its_field(
    promoter: TestClient, cluster_app: FastAPI, asked: dict[str, object], field: str
) -> None:
    before = promoter.get(BEARS).json()
    answer = promoter.patch(BEARS, json=asked)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert promoter.get(BEARS).json() == before


def test_one_machine_gives_an_endpoint_no_size(promoter: TestClient) -> None:
    for answer in (
        promoter.patch(BEARS, json={"replicas": 2}),
        promoter.post(ENDPOINTS, json={"name": "wolves", "cpu": 2}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "endpoint_size")
        assert "it takes a cluster" in answer.json()["way_out"]
    assert promoter.patch(BEARS, json={"replicas": 1, "cpu": None}).status_code == 200


def test_an_unknown_gate_is_refused_by_its_place(promoter: TestClient) -> None:
    answer = promoter.patch(BEARS, json={"gates": [{"kind": "vibes"}]})
    assert answer.status_code == 422
    assert answer.json()["field"] == "body.gates.0"


def test_a_token_is_shown_once_and_kept_as_hash(promoter: TestClient, database: Database) -> None:
    made = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()
    assert looks_right(made["secret"])
    with database.transaction() as session:
        kept = session.scalars(select(EndpointToken)).one()
    assert kept.hash == hashlib.sha256(made["secret"].encode()).hexdigest()
    listed = promoter.get(BEARS + "/tokens")
    assert made["secret"] not in listed.text
    assert listed.json()["items"][0]["name"] == "shop"


def test_a_revoked_token_stays_listed_as_such(promoter: TestClient) -> None:
    made = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()
    path = f"{BEARS}/tokens/{made['id']}"
    assert promoter.delete(path).status_code == 204
    assert promoter.delete(path).status_code == 204
    assert promoter.get(BEARS + "/tokens").json()["items"][0]["revoked_at"] is not None


def test_another_endpoints_token_is_not_found(promoter: TestClient) -> None:
    promoter.post(ENDPOINTS, json={"name": "wolves"})
    made = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()
    answer = promoter.delete(f"{ENDPOINTS}/wolves/tokens/{made['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "endpoint_token_not_found")


def test_a_promotion_is_accepted_and_found_at_its_location(promoter: TestClient, zoo: Zoo) -> None:
    run = zoo.add_run("d1")
    answer = promoter.post(BEARS + "/promotions", json={"run": run})
    assert answer.status_code == 202
    assert answer.headers["location"] == BEARS + "/promotions/1"
    shown = promoter.get(answer.headers["location"]).json()
    assert shown == answer.json()
    assert (shown["run"], shown["bundle"], shown["state"]) == (run, "d1", "checking")
    assert promoter.get(BEARS + "/promotions").json()["items"] == [shown]
    assert "probe_token" not in answer.text
    assert "bl_" not in answer.text


def test_a_run_that_is_not_done_is_refused_by_its_state(promoter: TestClient, zoo: Zoo) -> None:
    for state in set(JobState) - {JobState.done}:
        run = zoo.add_run("d1", state=state)
        answer = promoter.post(BEARS + "/promotions", json={"run": run})
        assert (answer.status_code, answer.json()["code"]) == (409, "run_not_done")
        assert f"run {run} is {state.value}" in answer.json()["detail"]


def test_an_unknown_run_is_not_found(promoter: TestClient) -> None:
    answer = promoter.post(BEARS + "/promotions", json={"run": 9})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_run")
    assert promoter.get(BEARS + "/promotions/1").json()["code"] == "promotion_not_found"


def test_one_promotion_at_a_time(promoter: TestClient, zoo: Zoo) -> None:
    runs = [zoo.add_run("d1"), zoo.add_run("d2")]
    promoter.post(BEARS + "/promotions", json={"run": runs[0]})
    for answer in (
        promoter.post(BEARS + "/promotions", json={"run": runs[1]}),
        promoter.post(BEARS + "/rollback"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "promotion_under_way")
        assert "promotion 1" in answer.json()["detail"]


def test_the_same_post_again_starts_nothing_twice(promoter: TestClient, zoo: Zoo) -> None:
    run = zoo.add_run("d1")
    headers = {"Idempotency-Key": "once"}
    answers = [
        promoter.post(BEARS + "/promotions", json={"run": run}, headers=headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert zoo.states() == ["checking"]


def test_what_is_live_already_is_refused(
    promoter: TestClient, zoo: Zoo, cluster: FakeCluster
) -> None:
    run = zoo.add_run("d1")
    promoter.post(BEARS + "/promotions", json={"run": run})
    zoo.settle(cluster)
    answer = promoter.post(BEARS + "/promotions", json={"run": run})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_live")


def test_there_is_no_rollback_before_a_second_bundle(
    promoter: TestClient, zoo: Zoo, cluster: FakeCluster
) -> None:
    assert promoter.post(BEARS + "/rollback").json()["code"] == "nothing_to_restore"
    promoter.post(BEARS + "/promotions", json={"run": zoo.add_run("d1")})
    zoo.settle(cluster)
    answer = promoter.post(BEARS + "/rollback")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_restore")


def test_a_deleted_endpoint_is_gone_for_callers_at_once(promoter: TestClient) -> None:
    assert promoter.delete(BEARS).status_code == 204
    assert promoter.get(BEARS).status_code == 404
    assert promoter.get(BEARS + "/status").json()["code"] == "endpoint_not_found"
    assert promoter.get(ENDPOINTS).json()["items"] == []


def test_every_change_is_on_record(promoter: TestClient, zoo: Zoo, database: Database) -> None:
    promoter.patch(BEARS, json={"gates": []})
    made = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()
    promoter.delete(f"{BEARS}/tokens/{made['id']}")
    promoter.post(BEARS + "/promotions", json={"run": zoo.add_run("d1")})
    promoter.delete(BEARS)
    with database.transaction() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [(event.action, event.actor) for event in events] == [
        ("endpoint.create", "promoter"),
        ("endpoint.change_gates", "promoter"),
        ("endpoint_token.create", "promoter"),
        ("endpoint_token.revoke", "promoter"),
        ("endpoint.promote", "promoter"),
        ("endpoint.delete", "promoter"),
    ]
