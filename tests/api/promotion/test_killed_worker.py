"""A worker killed at any instant, then another one: each promotion takes effect exactly once."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest
from fastapi.testclient import TestClient

from tests.api.promotion.cluster import FakeCluster, WorkerKilledError
from tests.api.promotion.zoo import Zoo

ENDPOINTS = "/v1/projects/zoo/endpoints"
BEARS = ENDPOINTS + "/bears"


@pytest.fixture
def promoter(callers: Callable[[str], TestClient], zoo: Zoo, cluster: FakeCluster) -> TestClient:
    """A promoter whose endpoint serves d1."""
    client = callers("promoter")
    create_endpoint(client)
    promote(client, zoo, "d1")
    zoo.settle(cluster)
    return client


def create_endpoint(client: TestClient) -> None:
    gates = [{"kind": "parity", "images": 2}]
    assert client.post(ENDPOINTS, json={"name": "bears", "gates": gates}).status_code == 201


def promote(client: TestClient, zoo: Zoo, digest: str) -> None:
    answer = client.post(BEARS + "/promotions", json={"run": zoo.add_run(digest)})
    assert answer.status_code == 202, answer.text


def check(zoo: Zoo, cluster: FakeCluster, *, states: list[str], digest: str) -> None:
    """Everything agrees, and nothing is left over."""
    endpoint = zoo.endpoint()
    name = f"bears-{endpoint.id}"
    assert zoo.states() == states
    assert cluster.serving == {name: digest}
    assert list(cluster.requests) == [name]
    assert (endpoint.bundle_digest, endpoint.serving_digest) == (digest, digest)
    assert endpoint.ready


def killed_at_every_moment(zoo: Zoo, cluster: FakeCluster) -> Iterator[int]:
    """Yield the moments, one story each; kill its worker there, let another one go on.

    Ends after the story in which the first worker came to the end before its moment.
    """
    for moment in count():
        yield moment
        cluster.kill_worker_at(moment)
        killed = False
        try:
            zoo.settle(cluster, "first")
        except WorkerKilledError:
            killed = True
            assert not zoo.step(cluster, "second"), "the claim stands until it runs out"
        cluster.kill_worker_at(None)
        zoo.expire_leases()
        zoo.settle(cluster, "second")
        if not killed:
            return


def test_a_promotion_survives_a_worker_killed_at_any_moment(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    digest, moments = "d1", 0
    for moment in killed_at_every_moment(zoo, cluster):
        check(zoo, cluster, states=["replaced"] * moment + ["live"], digest=digest)
        digest, moments = f"d{moment + 2}", moment
        promote(promoter, zoo, digest)
    check(zoo, cluster, states=["replaced"] * (moments + 1) + ["live"], digest=digest)
    assert {len(promotion.results) for promotion in zoo.promotions()} == {1}
    # Keeping the old one, the candidate up and away, and the endpoint over: 7 calls.
    assert moments == 14


def test_a_rollback_survives_a_worker_killed_at_any_moment(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    states, moments = ["live"], 0
    for moment in killed_at_every_moment(zoo, cluster):
        check(zoo, cluster, states=states, digest="d1")
        moments = moment
        promote(promoter, zoo, "d2")
        zoo.settle(cluster)
        assert promoter.post(BEARS + "/rollback").status_code == 202
        states = ["replaced"] * len(zoo.states()[:-1]) + ["live"]
    check(zoo, cluster, states=states, digest="d1")
    assert moments == 4


def test_a_refusal_survives_a_worker_killed_at_any_moment(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    cluster.shift("d2", 0.01)
    states, moments = ["live"], 0
    for moment in killed_at_every_moment(zoo, cluster):
        check(zoo, cluster, states=states, digest="d1")
        states, moments = [*states, "refused"], moment
        promote(promoter, zoo, "d2")
    check(zoo, cluster, states=states, digest="d1")
    assert moments == 10


def test_a_removal_survives_a_worker_killed_at_any_moment(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    cluster.break_bundle("broken")
    run = zoo.add_run("broken")
    for moment in range(5):
        promoter.post(BEARS + "/promotions", json={"run": run})
        zoo.make_due()
        zoo.step(cluster)
        assert any(name.startswith("candidate-") for name in cluster.requests)
        promoter.delete(BEARS)
        cluster.kill_worker_at(moment)
        if moment < 4:
            with pytest.raises(WorkerKilledError):
                zoo.step(cluster, "first")
        zoo.expire_leases()
        zoo.step(cluster, "second")
        assert cluster.requests == {}
        assert zoo.states() == []
        create_endpoint(promoter)


@pytest.mark.parametrize(
    "stalls_in", ["deploy candidate-2-check", "undeploy candidate-2-check", "look bears-1"]
)
def test_a_stalled_worker_changes_nothing_when_it_wakes(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient, stalls_in: str
) -> None:
    promote(promoter, zoo, "d2")
    asked: list[str] = []

    def another_does_all_of_it() -> None:
        zoo.expire_leases()
        zoo.settle(cluster, "second")
        asked.append("done")

    cluster.during(stalls_in, another_does_all_of_it)
    zoo.step(cluster, "first")
    assert asked == ["done"]
    check(zoo, cluster, states=["replaced", "live"], digest="d2")
    assert zoo.endpoint().lease_owner is None
    assert {len(promotion.results) for promotion in zoo.promotions()} == {1}


def test_a_worker_that_wakes_after_the_removal_deploys_nothing(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    # Its candidate would stay, as nobody ever hears of a success.
    cluster.break_bundle("d2")
    promote(promoter, zoo, "d2")

    # The sleeper was about to deploy the candidate.
    cluster.during("look bears-1", partial(remove_endpoint, zoo, cluster, promoter))
    zoo.step(cluster, "first")
    assert cluster.requests == {}
    assert zoo.states() == []


@pytest.mark.parametrize("stalls_in", ["deploy bears-1", "deploy candidate-2-check"])
def test_what_a_stalled_worker_deploys_of_a_removed_endpoint_is_swept_away(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient, stalls_in: str
) -> None:
    promote(promoter, zoo, "d2")

    cluster.before(stalls_in, partial(remove_endpoint, zoo, cluster, promoter))
    zoo.step(cluster, "first")
    name = stalls_in.removeprefix("deploy ")
    assert list(cluster.requests) == [name], "it holds no claim any more, and does not know"
    assert zoo.sweep(cluster) == [name]
    assert cluster.requests == {}


def test_a_candidate_that_comes_after_its_check_is_swept_away(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promote(promoter, zoo, "d2")

    def another_does_all_of_it() -> None:
        zoo.expire_leases()
        zoo.settle(cluster, "second")

    cluster.before("deploy candidate-2-check", another_does_all_of_it)
    zoo.step(cluster, "first")
    assert sorted(cluster.requests) == ["bears-1", "candidate-2-check"]
    assert zoo.sweep(cluster) == ["candidate-2-check"]
    check(zoo, cluster, states=["replaced", "live"], digest="d2")


def test_a_sweep_leaves_what_is_being_made(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    cluster.break_bundle("d2")

    def a_check_begins() -> None:
        promote(promoter, zoo, "d2")
        zoo.step(cluster)

    cluster.before("list", a_check_begins)
    assert zoo.sweep(cluster) == []
    assert sorted(cluster.requests) == ["bears-1", "candidate-2-check"]
    promoter.delete(BEARS)
    assert zoo.sweep(cluster) == [], "the step on the endpoint takes them away, under its claim"


def remove_endpoint(zoo: Zoo, cluster: FakeCluster, promoter: TestClient) -> None:
    """Let another worker remove the endpoint with all that was deployed for it."""
    promoter.delete(BEARS)
    zoo.expire_leases()
    zoo.step(cluster, "second")
    assert cluster.requests == {}
