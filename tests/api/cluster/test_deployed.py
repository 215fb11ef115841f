"""What a release finds of its own on Kubernetes: servers by their labels, owners by their uid."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.cluster.protocol import DeploymentRequest, JobRequest
from api.cluster.server_objects import object_name
from tests.api.cluster.api_server import NAMESPACE, ApiServer, Thing, api_server
from tests.api.cluster.kubernetes_rules import rules

CALL = timedelta(seconds=20)
OWNER = "forest-owner"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[ApiServer, str]]:
    with api_server(tmp_path) as running:
        own(running[0], "first")
        yield running


@pytest.fixture
def api(server: tuple[ApiServer, str]) -> Iterator[KubernetesApi]:
    api = KubernetesApi(NAMESPACE, timeout=CALL, kubeconfig=server[1])
    yield api
    api.close()


@pytest.fixture
def kept(server: tuple[ApiServer, str]) -> ApiServer:
    return server[0]


def own(kept: ApiServer, uid: str) -> None:
    kept.put("configmaps", {"metadata": {"name": OWNER, "uid": uid}})


def cluster_of(api: KubernetesApi, **changes: Any) -> KubernetesCluster:
    return KubernetesCluster(api, rules().model_copy(update=changes), call_deadline=CALL)


def asked(name: str) -> DeploymentRequest:
    return DeploymentRequest(name=name, digest="first", environment={}, token_hashes=("ab",))


def job(name: str) -> JobRequest:
    return JobRequest(name=name, program="importer", environment={})


def owner_of(thing: Thing) -> str:
    [reference] = thing["metadata"]["ownerReferences"]
    return str(reference["uid"])


def test_deployments_are_listed_by_name_until_they_are_taken_away(
    kept: ApiServer, api: KubernetesApi
) -> None:
    cluster = cluster_of(api)
    for name in ("bears-3", "candidate-2-check"):
        cluster.deploy(asked(name))
    # Of this one a worker was killed before it made the Deployment.
    kept.change("deployments", object_name("forest", "bears-3"), None)
    assert cluster_of(api).deployments() == ["bears-3", "candidate-2-check"]
    cluster.undeploy("bears-3")
    assert cluster.deployments() == ["candidate-2-check"]


def test_another_release_and_what_people_made_are_not_listed(
    kept: ApiServer, api: KubernetesApi
) -> None:
    cluster_of(api, release="river").deploy(asked("bears-3"))
    kept.put("deployments", {"metadata": {"name": "theirs", "labels": {"app": "theirs"}}})
    assert cluster_of(api).deployments() == []


@pytest.mark.parametrize("outlive", [True, False])
def test_endpoints_that_outlived_an_installation_are_not_the_next_ones(
    kept: ApiServer, api: KubernetesApi, outlive: bool
) -> None:
    cluster_of(api, endpoints_outlive=True).deploy(asked("bears-3"))
    # A release of the same name, on another database, which may know none of them.
    own(kept, "second")
    cluster = cluster_of(api, endpoints_outlive=outlive)
    assert cluster.deployments() == []
    # And on the same one: it applies what its tables name, which makes it its own.
    cluster.deploy(asked("bears-3"))
    assert cluster.deployments() == ["bears-3"]


def test_an_owner_that_was_made_anew_owns_what_is_made_from_then_on(
    kept: ApiServer, api: KubernetesApi
) -> None:
    cluster = cluster_of(api)
    cluster.deploy(asked("bears-3"))
    cluster.launch(job("import-a-1"))
    own(kept, "second")
    cluster.deploy(asked("bears-3"))
    cluster.launch(job("import-a-2"))
    deployment = kept.objects["deployments"][object_name("forest", "bears-3")]
    assert owner_of(deployment) == "second"
    jobs = kept.objects["jobs"]
    assert [owner_of(jobs[f"import-a-{n}"]) for n in (1, 2)] == ["first", "second"]


def test_without_an_owner_nothing_is_made(kept: ApiServer, api: KubernetesApi) -> None:
    kept.change("configmaps", OWNER, None)
    cluster = cluster_of(api)
    for make in (lambda: cluster.deploy(asked("bears-3")), lambda: cluster.launch(job("run-a-1"))):
        with pytest.raises(ClusterError, match="`helm upgrade` makes it again"):
            make()
    assert set(kept.objects) == {"configmaps"}
