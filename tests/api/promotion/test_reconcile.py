"""What the worker makes of promotions and endpoints, on a cluster whose servers answer."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.cluster.protocol import DeploymentRequest
from tests.api.promotion.cluster import FakeCluster, WorkerKilledError
from tests.api.promotion.zoo import Zoo

BEARS = "/v1/projects/zoo/endpoints/bears"
LATER = timedelta(minutes=6)
"""Past the deadline of a roll-out."""


@pytest.fixture
def promoter(callers: Callable[[str], TestClient]) -> TestClient:
    client = callers("promoter")
    client.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    return client


def name_of(zoo: Zoo) -> str:
    return f"bears-{zoo.endpoint().id}"


def promote(client: TestClient, run: int) -> str:
    answer = client.post(BEARS + "/promotions", json={"run": run})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def test_nothing_due_is_said(zoo: Zoo, cluster: FakeCluster, promoter: TestClient) -> None:
    assert zoo.step(cluster)
    assert not zoo.step(cluster)


def test_a_promotion_is_checked_rolled_out_and_live(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    where = promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "live"
    assert shown["reason"] is None
    [parity] = shown["results"]
    assert parity["passed"]
    assert parity["seen"]["images"] == 16
    # 16 answers of the candidate, and at least one of the endpoint itself.
    candidate, name = f"candidate-{zoo.promotions()[0].id}-check", name_of(zoo)
    assert cluster.asked.count(candidate) == 16
    assert name in cluster.asked
    assert cluster.serving == {name: "d1"}
    status = promoter.get(BEARS + "/status").json()
    assert (status["should_serve"], status["serves"], status["ready"]) == ("d1", "d1", True)
    assert status["url"] == f"{cluster.address}/{name}"
    assert status["promotions"] == [shown]


def test_only_the_worker_may_ask_the_candidate(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    token = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()["secret"]
    promote(promoter, zoo.add_run("d1"))
    candidate = f"candidate-{zoo.promotions()[0].id}-check"
    answers: list[int] = []
    cluster.during(
        f"look {candidate}", lambda: answers.append(cluster.classify(candidate, b"x", token)[0])
    )
    zoo.settle(cluster)
    assert answers == [401]
    assert zoo.states() == ["live"]


def test_a_model_that_misses_the_bar_is_refused_in_words(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": [{"kind": "minimum", "at_most": 0.05}]})
    where = promote(promoter, zoo.add_run("d1", error=0.1))
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "refused"
    assert shown["reason"] == "error on 40 valid images is 0.1, more than 0.05"
    assert [(r["name"], r["passed"]) for r in shown["results"]] == [
        ("minimum", False),
        ("parity", True),
    ]
    assert cluster.requests == {}
    assert promoter.get(BEARS + "/status").json()["should_serve"] is None


def test_a_server_that_says_otherwise_than_the_trainer_is_refused(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    cluster.shift("d2", 0.01)
    where = promote(promoter, zoo.add_run("d2"))
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "refused"
    assert shown["results"][0]["seen"]["largest_difference"] == pytest.approx(0.01, abs=1e-6)
    assert cluster.serving == {name_of(zoo): "d1"}


def test_parity_asks_of_no_training_image(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    trained = [(f"seen {n}".encode(), "train", 70) for n in range(8)]
    where = promote(promoter, zoo.add_run("d1", pictures=list(trained)))
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "refused"
    assert "no valid or test image" in shown["reason"]
    assert cluster.asked == []


def test_the_comparison_is_on_images_held_out_from_both(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    gates = [{"kind": "not-worse-than-champion"}, {"kind": "no-class-falls", "by": 0.5}]
    promoter.patch(BEARS, json={"gates": gates})
    pictures = [(f"held out {n}".encode(), "valid", 70) for n in range(12)]
    right = {70: 0.8, 3: 0.1, 12: 0.1}
    wrong = {70: 0.1, 3: 0.8, 12: 0.1}
    champion = zoo.add_run("d1", pictures=list(pictures), predict=lambda _: right)
    worse = zoo.add_run("d2", pictures=[*pictures, (b"new", "valid", 70)], predict=lambda _: wrong)
    first = promote(promoter, champion)
    zoo.settle(cluster)
    results = promoter.get(first).json()["results"]
    assert [(r["name"], r["skipped"]) for r in results[:2]] == [
        ("not-worse-than-champion", True),
        ("no-class-falls", True),
    ]
    # The parity of these made-up reports does not hold: make the champion live all the same.
    assert promoter.get(first).json()["state"] == "refused"
    promoter.patch(BEARS, json={"gates": [*gates, {"kind": "parity", "tolerance": 1, "margin": 1}]})
    promote(promoter, champion)
    zoo.settle(cluster)
    second = promote(promoter, worse)
    zoo.settle(cluster)
    shown = promoter.get(second).json()
    assert shown["state"] == "refused"
    assert shown["results"][0]["seen"] == {
        "images": 12,
        "fixed": 0,
        "broken": 12,
        "p": pytest.approx(2 / 2**12),
    }
    assert shown["results"][1]["seen"] == {"largest_fall": 1.0}
    assert "black falls most" in shown["reason"]


def test_a_champion_that_tells_merged_classes_apart_is_right_with_either(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    anything = {"kind": "parity", "tolerance": 1, "margin": 1}
    promoter.patch(BEARS, json={"gates": [{"kind": "not-worse-than-champion"}, anything]})
    held_out = [f"held out {n}".encode() for n in range(12)]
    champion = zoo.add_run(
        "d1",
        pictures=[(picture, "valid", 3) for picture in held_out],
        predict=lambda _: {70: 0.1, 3: 0.8, 12: 0.1},
    )
    promote(promoter, champion)
    zoo.settle(cluster)
    zoo.merge(3, into=70)
    worse = zoo.add_run(
        "d2",
        pictures=[(picture, "valid", 70) for picture in held_out],
        predict=lambda picture: (
            {70: 0.8, 12: 0.2} if picture == held_out[0] else {70: 0.2, 12: 0.8}
        ),
    )
    second = promote(promoter, worse)
    zoo.settle(cluster)
    shown = promoter.get(second).json()
    assert shown["state"] == "refused"
    seen = shown["results"][0]["seen"]
    assert (seen["images"], seen["fixed"], seen["broken"]) == (12, 0, 11)


def test_a_second_bundle_replaces_and_one_call_takes_it_back(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    for digest in ("d1", "d2"):
        promote(promoter, zoo.add_run(digest))
        zoo.settle(cluster)
    assert zoo.states() == ["replaced", "live"]
    cluster.asked.clear()
    answer = promoter.post(BEARS + "/rollback")
    assert answer.status_code == 202
    assert answer.json()["rollback_of"] == 2
    zoo.settle(cluster)
    shown = promoter.get(answer.headers["location"]).json()
    assert (shown["state"], shown["bundle"], shown["run"]) == ("live", "d1", 1)
    assert zoo.states() == ["replaced", "replaced", "live"]
    assert cluster.serving == {name_of(zoo): "d1"}
    # No gate again: nobody but the endpoint was asked.
    assert set(cluster.asked) == {name_of(zoo)}
    again = promoter.post(BEARS + "/rollback")
    assert again.json()["code"] == "nothing_to_restore"


def test_a_candidate_that_never_answers_fails_with_the_reason(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    cluster.break_bundle("d1")
    where = promote(promoter, zoo.add_run("d1"))
    zoo.step(cluster)
    waiting = promoter.get(where).json()
    assert waiting["state"] == "checking"
    assert "golden outputs differ" in waiting["reason"]
    zoo.pass_time(LATER)
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "failed"
    assert "golden outputs differ" in shown["reason"]
    assert cluster.requests == {}


def test_a_roll_out_that_hangs_fails_and_the_old_bundle_stays(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    where = promote(promoter, zoo.add_run("d2"))
    zoo.make_due()
    zoo.step(cluster)
    assert promoter.get(where).json()["state"] == "rolling_out"
    cluster.break_bundle("d2")
    zoo.make_due()
    zoo.step(cluster)
    status = promoter.get(BEARS + "/status").json()
    assert (status["should_serve"], status["serves"], status["ready"]) == ("d1", "d1", True)
    zoo.pass_time(LATER)
    zoo.settle(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "failed"
    assert "golden outputs differ" in shown["reason"]
    assert cluster.requests[name_of(zoo)].digest == "d2"
    zoo.step(cluster)
    assert cluster.requests[name_of(zoo)].digest == "d1"
    assert zoo.states() == ["live", "failed"]
    status = promoter.get(BEARS + "/status").json()
    assert (status["should_serve"], status["serves"], status["ready"]) == ("d1", "d1", True)


def test_a_first_roll_out_that_fails_leaves_no_server(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.step(cluster)
    cluster.break_bundle("d1")
    zoo.step(cluster)
    assert list(cluster.requests) == [name_of(zoo)]
    zoo.pass_time(LATER)
    zoo.settle(cluster)
    zoo.step(cluster)
    assert cluster.requests == {}
    assert zoo.states() == ["failed"]


def test_a_promotion_whose_steps_always_die_is_given_up(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    where = promote(promoter, zoo.add_run("d1"))
    cluster.kill_worker_at(1)
    with pytest.raises(WorkerKilledError):
        zoo.step(cluster)
    zoo.expire_leases()
    cluster.kill_worker_at(1)
    zoo.pass_time(timedelta(hours=1))
    with pytest.raises(WorkerKilledError):
        zoo.step(cluster)
    cluster.kill_worker_at(None)
    zoo.expire_leases()
    zoo.step(cluster)
    shown = promoter.get(where).json()
    assert shown["state"] == "failed"
    assert "again and again" in shown["reason"]
    assert cluster.requests == {}


def test_a_killed_server_comes_back(zoo: Zoo, cluster: FakeCluster, promoter: TestClient) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    cluster.break_bundle("d1")
    cluster.kill_server(name_of(zoo))
    zoo.make_due()
    zoo.step(cluster)
    status = promoter.get(BEARS + "/status").json()
    assert (status["should_serve"], status["serves"], status["ready"]) == ("d1", None, False)
    assert "golden outputs differ" in status["reason"]
    cluster.mend_bundle("d1")
    zoo.make_due()
    zoo.step(cluster)
    assert cluster.serving == {name_of(zoo): "d1"}
    assert promoter.get(BEARS + "/status").json()["ready"]


def test_tokens_reach_the_servers_and_leave_them(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    name = name_of(zoo)
    made = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()
    assert cluster.classify(name, b"x", made["secret"])[0] == 401
    zoo.step(cluster)  # due at once, not after the next ten seconds
    assert cluster.classify(name, b"x", made["secret"])[0] == 200
    promoter.delete(f"{BEARS}/tokens/{made['id']}")
    zoo.step(cluster)
    assert cluster.classify(name, b"x", made["secret"])[0] == 401
    assert promoter.get(BEARS + "/status").json()["ready"]


def test_a_public_endpoint_asks_for_no_token(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.post("/v1/projects/zoo/endpoints", json={"name": "open", "public": True})
    promoter.delete(BEARS)
    zoo.step(cluster)
    promoter.post("/v1/projects/zoo/endpoints/open/promotions", json={"run": zoo.add_run("d1")})
    zoo.settle(cluster)
    [name] = cluster.requests
    assert cluster.requests[name].token_hashes is None


def test_servers_have_the_size_of_the_endpoint_and_the_candidate_is_one(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient, app: FastAPI
) -> None:
    app.state.settings = zoo.settings.model_copy(update={"cluster": "kubernetes"})
    size = {"replicas": 2, "most_replicas": 5, "cpu": 0.5, "memory": "2Gi"}
    promoter.patch(BEARS, json=size)
    promote(promoter, zoo.add_run("d1"))
    candidate = f"candidate-{zoo.promotions()[0].id}-check"
    checked: list[DeploymentRequest] = []
    cluster.during(f"look {candidate}", lambda: checked.append(cluster.requests[candidate]))
    zoo.settle(cluster)
    served = cluster.requests[name_of(zoo)]
    asked = [(r.replicas, r.most_replicas, r.cpu, r.memory) for r in (*checked, served)]
    assert asked == [(1, 1, 0.5, "2Gi"), (2, 5, 0.5, "2Gi")]
    assert (served.title, served.project) == ("endpoint bears", "zoo")
    assert checked[0].title == "candidate of promotion 1 to endpoint bears"
    promoter.patch(BEARS, json={"replicas": 3, "most_replicas": None})
    zoo.step(cluster)  # the change wakes the worker, not the next ten seconds
    resized = cluster.requests[name_of(zoo)]
    assert (resized.replicas, resized.most_replicas) == (3, 3)


def test_an_endpoint_whose_change_is_refused_answers_on_and_says_so(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    before = promoter.get(BEARS + "/status").json()
    cluster.refuse_changes(name_of(zoo), "cannot apply Deployment: exceeded quota")
    promoter.post(BEARS + "/tokens", json={"name": "shop"})
    zoo.step(cluster)
    status = promoter.get(BEARS + "/status").json()
    assert status == {**before, "reason": "cannot apply Deployment: exceeded quota"}
    assert (status["serves"], status["ready"]) == ("d1", True)


def test_a_deleted_endpoint_leaves_nothing(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.post(BEARS + "/tokens", json={"name": "shop"})
    for digest in ("d1", "d2"):
        promote(promoter, zoo.add_run(digest))
        zoo.settle(cluster)
    promoter.post(BEARS + "/rollback")
    zoo.settle(cluster)
    promoter.delete(BEARS)
    taken = promoter.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    assert "still being removed" in taken.json()["detail"]
    zoo.step(cluster)
    assert cluster.requests == {}
    assert zoo.states() == []
    again = promoter.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    assert again.status_code == 201
    assert promoter.get(BEARS + "/promotions").json()["items"] == []


def test_an_endpoint_deleted_under_a_check_takes_its_candidate_along(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    cluster.break_bundle("d1")
    promote(promoter, zoo.add_run("d1"))
    zoo.step(cluster)
    assert cluster.requests
    promoter.delete(BEARS)
    zoo.step(cluster)
    assert cluster.requests == {}


def test_a_promotion_asked_for_during_a_step_is_not_left_waiting(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    run = zoo.add_run("d1")
    cluster.during(f"look {name_of(zoo)}", lambda: promote(promoter, run))
    zoo.step(cluster)
    assert zoo.states() == ["checking"]
    assert zoo.step(cluster), "the endpoint is due at once"
    assert zoo.states() == ["rolling_out"]
