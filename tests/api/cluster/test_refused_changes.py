"""An API server that takes no change of an endpoint: what answers stays in sight."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_servers import KubernetesServers
from api.cluster.protocol import DeploymentRequest, SeenDeployment
from api.cluster.server_objects import object_name
from tests.api.cluster.api_server import NAMESPACE, ApiServer
from tests.api.cluster.kubernetes_rules import rules

ASKED = DeploymentRequest(name="bears-3", digest="first", environment={}, token_hashes=("ab",))
BIGGER = replace(ASKED, memory="64Gi")
NAME = object_name("forest", "bears-3")


@pytest.fixture
def servers(server: tuple[ApiServer, str]) -> Iterator[KubernetesServers]:
    api = KubernetesApi(NAMESPACE, timeout=timedelta(seconds=20), kubeconfig=server[1])
    yield KubernetesServers(api, rules())
    api.close()


@pytest.fixture
def cluster(server: tuple[ApiServer, str]) -> ApiServer:
    return server[0]


def serve(cluster: ApiServer, servers: KubernetesServers) -> SeenDeployment:
    """Deploy, and let a server be ready."""
    servers.deploy(ASKED)
    template = cluster.objects["deployments"][NAME]["spec"]["template"]["metadata"]
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    pod = {"metadata": {"name": "bears-pod", **template}, "spec": {}, "status": status}
    cluster.put("pods", pod)
    return look(servers)


def look(servers: KubernetesServers) -> SeenDeployment:
    seen = servers.look("bears-3")
    assert seen is not None
    return seen


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_an_endpoint_answers_on_when_its_change_is_refused(
    cluster: ApiServer, servers: KubernetesServers, status: int
) -> None:
    before = serve(cluster, servers)
    assert (before.digest, before.ready, before.reason) == ("first", True, None)
    cluster.refuse("deployments", status, "exceeded quota: small")
    servers.deploy(replace(BIGGER, digest="second"))
    after = look(servers)
    assert after.reason == (
        f"cannot apply Deployment {NAME} in namespace woods: exceeded quota: small ({status})"
    )
    assert replace(after, reason=None) == before


@pytest.mark.parametrize("status", [401, 408, 429, 500, 503])
def test_an_answer_that_says_nothing_of_the_objects_is_the_callers(
    cluster: ApiServer, servers: KubernetesServers, status: int
) -> None:
    before = serve(cluster, servers)
    cluster.refuse("deployments", status, "come back later")
    with pytest.raises(ClusterError, match="come back later"):
        servers.deploy(BIGGER)
    assert look(servers) == before


def test_what_was_never_made_has_no_address_and_says_why(
    cluster: ApiServer, servers: KubernetesServers
) -> None:
    assert servers.look("bears-3") is None
    cluster.refuse("deployments", 403, "exceeded quota: small")
    servers.deploy(ASKED)
    seen = look(servers)
    assert (seen.digest, seen.ready, seen.url) == ("first", False, None)
    assert "exceeded quota: small" in str(seen.reason)


def test_a_change_that_is_taken_back_is_put_right_at_once(
    cluster: ApiServer, servers: KubernetesServers
) -> None:
    before = serve(cluster, servers)
    secret = cluster.objects["secrets"][NAME]
    cluster.refuse("deployments", 403, "exceeded quota: small")
    servers.deploy(replace(BIGGER, token_hashes=("cd",)))
    assert cluster.objects["secrets"][NAME] != secret
    cluster.relent()
    servers.deploy(ASKED)
    assert look(servers) == before
    assert cluster.objects["secrets"][NAME] == secret
