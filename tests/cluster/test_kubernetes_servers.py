"""Endpoints on a real Kubernetes, in a namespace that takes restricted pods only."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_servers import KubernetesServers
from api.cluster.protocol import SeenDeployment
from tests.cluster.rig import CommandError, until
from tests.cluster.serving import (
    NAMESPACE,
    OWNER,
    Place,
    await_reason,
    bring_up,
    calling,
    look,
    opened_namespace,
    request,
)

IMAGE = os.environ.get("BEARLOOP_TEST_IMAGE", "localhost/bearloop-inference:0.1.0")
HASHES = tuple(sorted(hashlib.sha256(token).hexdigest() for token in (b"shop", b"worker")))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with opened_namespace() as namespace:
        api = KubernetesApi(NAMESPACE, timeout=timedelta(seconds=20))
        yield Place(namespace, api, IMAGE)
        api.close()


@pytest.fixture
def servers(place: Place) -> KubernetesServers:
    return place.servers()


def test_a_bundle_is_served_and_taken_away_without_a_trace(
    place: Place, servers: KubernetesServers
) -> None:
    assert servers.look("bears-1") is None
    asked = request("bears-1", replicas=2, most_replicas=3, token_hashes=HASHES)
    seen = bring_up(servers, asked)
    assert (seen.reason, seen.refused) == (None, False)
    assert seen.url is not None
    assert seen.url.startswith("http://forest-bears-1-")
    assert seen.url.endswith(f".{NAMESPACE}:8080")
    assert place.ask(seen) == {"bundle": "first", "tokens": list(HASHES), "threads": "1"}
    assert len(place.left_of("bears-1").split()) >= 8
    assert servers.names() == ["bears-1"]
    for _ in range(2):
        servers.undeploy("bears-1")
    assert servers.names() == []
    assert servers.look("bears-1") is None
    until(lambda: not place.left_of("bears-1"), "nothing is left of it")


def test_another_bundle_takes_over_and_no_request_fails(
    place: Place, servers: KubernetesServers
) -> None:
    asked = request("moves-1", replicas=2, most_replicas=2)
    url = place.outside(bring_up(servers, asked)) + "/classify"
    with calling(url) as caller:
        bring_up(servers, request("moves-1", "second", replicas=2, most_replicas=2))
        answers = {place.ask(look(servers, "moves-1"))["bundle"] for _ in range(20)}
        bring_up(servers, asked)
        heard = caller.stop()
    assert answers == {"second"}
    assert heard.failed == []
    assert min(heard.seen["first"], heard.seen["second"]) > 50
    servers.undeploy("moves-1")


@pytest.mark.parametrize(
    ("digest", "changes", "reason", "refused"),
    [
        (
            "refused",
            {},
            "the server ended with exit code 42: refused to serve: the golden outputs differ",
            True,
        ),
        ("broken", {}, "the server ended with exit code 1: the disk is on fire", False),
        (
            "greedy",
            {},
            "the server ran out of memory at 128Mi: give the endpoint more `memory`",
            False,
        ),
        (
            "first",
            {"image": "localhost/there-is-none:7", "port": 8081},
            "the image localhost/there-is-none:7 cannot be pulled: ",
            False,
        ),
        ("first", {"secrets": ["absent"]}, 'the container cannot be made: secret "absent"', False),
        ("first", {"cpu": 5000}, "no node takes the server: 0/", False),
        ("first", {"priority_class": "A B"}, "cannot apply Deployment forest-ails-1-", False),
    ],
)
def test_it_says_why_it_does_not_serve(
    place: Place, *, digest: str, changes: dict[str, Any], reason: str, refused: bool
) -> None:
    servers = place.servers(**changes)
    servers.deploy(request("ails-1", digest))
    seen = await_reason(servers, "ails-1", lambda seen: (seen.reason or "").startswith(reason))
    assert (seen.ready, seen.refused) == (False, refused)
    servers.undeploy("ails-1")
    until(lambda: not place.left_of("ails-1"), "nothing is left of it")


def test_a_bundle_that_fails_leaves_the_one_before_answering(
    place: Place, servers: KubernetesServers
) -> None:
    url = place.outside(bring_up(servers, request("stays-1"))) + "/classify"
    with calling(url) as caller:
        servers.deploy(request("stays-1", "refused"))
        seen = await_reason(servers, "stays-1", lambda seen: seen.refused)
        heard = caller.stop()
    assert seen.digest == "refused"
    assert (heard.failed, set(heard.seen)) == ([], {"first"})
    servers.undeploy("stays-1")


def test_servers_come_with_the_load_and_go_with_it(place: Place) -> None:
    servers = place.servers(scale_in_after=timedelta(seconds=5))
    asked = request("grows-1", replicas=1, most_replicas=3)
    url = place.outside(bring_up(servers, asked)) + "/classify"
    with calling(url, headers={"X-Burn": "0.05"}) as caller:
        until(lambda: len(place.pods("grows-1")) > 1, "a second server comes")
        bring_up(servers, asked)
        heard = caller.stop()
    assert heard.failed == []
    until(lambda: len(place.pods("grows-1")) == 1, "the others go")
    servers.undeploy("grows-1")


def test_a_fixed_number_is_handed_to_the_autoscaler_as_it_is(
    place: Place, servers: KubernetesServers
) -> None:
    bring_up(servers, request("hands-1", replicas=3))
    for _ in range(2):
        place.servers().deploy(request("hands-1", replicas=2, most_replicas=4))
        live = place.namespace.get("deployments", "-l", "bearloop.io/endpoint=hands-1")["items"]
        assert live[0]["spec"]["replicas"] == 3
    bring_up(servers, request("hands-1", replicas=1))
    until(lambda: len(place.pods("hands-1")) == 1, "it is one again")
    servers.undeploy("hands-1")


def test_a_revoked_token_is_gone_from_the_servers_at_once(
    place: Place, servers: KubernetesServers, record_property: Callable[[str, object], None]
) -> None:
    asked = request("keeps-1", token_hashes=HASHES)
    seen = bring_up(servers, asked)
    before = [pod["metadata"]["uid"] for pod in place.pods("keeps-1")]
    for kept in (HASHES[:1], (), HASHES):
        began = time.monotonic()
        servers.deploy(replace(asked, token_hashes=kept))
        await_tokens(place, seen, kept)
        record_property("seconds", round(time.monotonic() - began, 1))
    assert [pod["metadata"]["uid"] for pod in place.pods("keeps-1")] == before
    servers.undeploy("keeps-1")


def await_tokens(place: Place, seen: SeenDeployment, hashes: Sequence[str]) -> None:
    until(lambda: place.ask(seen)["tokens"] == list(hashes), "the tokens change")


def test_of_two_servers_one_may_be_evicted_and_not_both(
    place: Place, servers: KubernetesServers
) -> None:
    bring_up(servers, request("drains-1", replicas=2))
    first, second = (pod["metadata"]["name"] for pod in place.pods("drains-1"))
    place.namespace.evict(first)
    with pytest.raises(CommandError, match="disruption budget"):
        place.namespace.evict(second)
    servers.undeploy("drains-1")


def test_what_somebody_deleted_comes_back_with_the_next_worker(
    place: Place, servers: KubernetesServers
) -> None:
    seen = bring_up(servers, request("heals-1"))
    place.namespace.kubectl("delete", "service", "-l", "bearloop.io/endpoint=heals-1")
    place.servers().deploy(request("heals-1"))
    assert place.ask(seen)["bundle"] == "first"
    servers.undeploy("heals-1")


def test_an_endpoint_goes_with_its_release(place: Place, servers: KubernetesServers) -> None:
    bring_up(servers, request("owned-1", token_hashes=HASHES))
    place.namespace.kubectl("delete", "configmap", OWNER)
    until(lambda: not place.left_of("owned-1"), "the cluster removes all of it")
    place.namespace.kubectl("create", "configmap", OWNER)
