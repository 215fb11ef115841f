"""An API server that takes no Job: for ever, which ends it, or for now, which does not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.cluster.protocol import InvalidLaunchError, JobRequest
from tests.api.cluster.api_server import NAMESPACE, ApiServer
from tests.api.cluster.kubernetes_rules import rules

CALL = timedelta(seconds=20)
RUN = JobRequest(name="run-a-1", program="trainer", environment={})
EFFECT = (
    'Job.batch "run-a-1" is invalid: spec.template.spec.tolerations[0].effect: Invalid value: '
    "\"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"
)
MEMORY = 'Job.batch "run-a-1" is invalid: spec.template.spec.containers[0].resources.requests'
OPERATORS = "what the operator set for the pods of the trainer (its chart's values)"


@pytest.fixture
def kept(server: tuple[ApiServer, str]) -> ApiServer:
    return server[0]


@pytest.fixture
def cluster(server: tuple[ApiServer, str]) -> Iterator[KubernetesCluster]:
    api = KubernetesApi(NAMESPACE, timeout=CALL, kubeconfig=server[1])
    yield KubernetesCluster(api, rules(), call_deadline=CALL)
    api.close()


@pytest.mark.parametrize("status", [400, 422])
def test_a_job_that_is_invalid_is_the_operators_to_mend(
    kept: ApiServer, cluster: KubernetesCluster, status: int
) -> None:
    kept.refuse("jobs", status, EFFECT)
    with pytest.raises(InvalidLaunchError) as caught:
        cluster.launch(RUN)
    assert str(caught.value) == (
        f"cannot create Job run-a-1 in namespace woods: {EFFECT} ({status}); "
        f"nothing is wrong with what was asked for: have {OPERATORS} corrected"
    )


def test_what_was_asked_for_may_be_the_reason(kept: ApiServer, cluster: KubernetesCluster) -> None:
    kept.refuse("jobs", 422, MEMORY)
    with pytest.raises(InvalidLaunchError, match="nothing is wrong with what was asked for"):
        cluster.launch(RUN)
    with pytest.raises(InvalidLaunchError, match="; ask for other `cpu`, `memory` or `gpus`, or"):
        cluster.launch(replace(RUN, memory="64Gi"))


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
def test_any_other_no_is_for_now(kept: ApiServer, cluster: KubernetesCluster, status: int) -> None:
    kept.refuse("jobs", status, "exceeded quota: small")
    with pytest.raises(ClusterError, match="exceeded quota: small"):
        cluster.launch(RUN)
    kept.relent()
    cluster.launch(RUN)
    assert list(kept.objects["jobs"]) == ["run-a-1"]


def test_what_was_half_made_is_found_again(kept: ApiServer, cluster: KubernetesCluster) -> None:
    kept.refuse("jobs", 422, EFFECT)
    with pytest.raises(InvalidLaunchError):
        cluster.launch(replace(RUN, nodes=2))
    kept.relent()
    assert [job.name for job in cluster.jobs()] == ["run-a-1"]
    cluster.remove("run-a-1")
    assert cluster.jobs() == []
