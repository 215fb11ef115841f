"""Jobs that a real Kueue holds back, admits and takes back; `tests/cluster/kueue` installs one."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.cluster.protocol import Phase, SeenJob
from tests.cluster.jobs import (
    GPU,
    LISTENS,
    asked,
    gone,
    has_kueue,
    opened_cluster,
    opened_namespace,
    release_rules,
    runs,
    seen,
)
from tests.cluster.rig import Namespace, run

NAME, QUEUE = "bearloop-test-kueue", "team-a"
QUEUES = f"""
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {{name: {NAME}}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {{name: {NAME}}}
spec:
  namespaceSelector: {{}}
  resourceGroups:
  - coveredResources: [cpu, memory, ephemeral-storage, {GPU}]
    flavors:
    - name: {NAME}
      resources:
      - {{name: cpu, nominalQuota: 8}}
      - {{name: memory, nominalQuota: 8Gi}}
      - {{name: ephemeral-storage, nominalQuota: 8Gi}}
      - {{name: {GPU}, nominalQuota: 1}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {{name: {QUEUE}, namespace: {NAME}}}
spec: {{clusterQueue: {NAME}}}
"""


pytestmark = pytest.mark.skipif(not has_kueue(), reason="no cluster with Kueue in it")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with opened_namespace(NAME) as opened:
        run("kubectl", "apply", "-f", "-", content=QUEUES)
        yield opened
        run("kubectl", "delete", "--wait=false", "-f", "-", content=QUEUES)


@pytest.fixture
def cluster(namespace: Namespace, request: pytest.FixtureRequest) -> Iterator[KubernetesCluster]:
    api = KubernetesApi(NAME, timeout=timedelta(seconds=20))
    opened = opened_cluster(api, release_rules(namespace, request.node.name))
    yield opened
    opened.end()
    for job in opened.jobs():
        opened.remove(job.name)
    api.close()


def waits_for(*words: str) -> Callable[[SeenJob], bool]:
    """Tell whether it waits, and says these words."""
    return lambda job: (
        job.phase is Phase.pending and all(word in (job.reason or "") for word in words)
    )


def test_what_does_not_fit_the_quota_waits_in_its_queue_and_then_runs(
    cluster: KubernetesCluster,
) -> None:
    cluster.launch(asked("run-a-1", LISTENS, gpus=1, queue=QUEUE))
    seen(cluster, "run-a-1", runs)
    cluster.launch(asked("run-b-1", LISTENS, gpus=1, queue=QUEUE))
    seen(cluster, "run-b-1", waits_for(f"waits in queue {QUEUE}: insufficient unused quota", GPU))
    cluster.remove("run-a-1")
    seen(cluster, "run-b-1", runs)


def test_what_waits_in_a_queue_can_be_taken_away(cluster: KubernetesCluster) -> None:
    cluster.launch(asked("run-c-1", LISTENS, gpus=2, queue=QUEUE))
    seen(cluster, "run-c-1", waits_for(f"waits in queue {QUEUE}: ", "quota"))
    cluster.remove("run-c-1")
    gone(cluster, "run-c-1")


def test_a_queue_that_is_not_there_is_named(cluster: KubernetesCluster) -> None:
    cluster.launch(asked("run-d-1", LISTENS, queue="team-z"))
    seen(cluster, "run-d-1", waits_for("waits in queue team-z: LocalQueue team-z doesn't exist"))


def test_what_its_queue_takes_back_did_not_fail_and_runs_again(
    cluster: KubernetesCluster, namespace: Namespace
) -> None:
    cluster.launch(asked("run-e-1", LISTENS, gpus=1, queue=QUEUE))
    first = seen(cluster, "run-e-1", runs)
    stop = ("patch", "localqueue", QUEUE, "--type=merge", "-p")
    namespace.kubectl(*stop, '{"spec": {"stopPolicy": "HoldAndDrain"}}')
    seen(cluster, "run-e-1", waits_for(f"waits in queue {QUEUE}: LocalQueue {QUEUE} is inactive"))
    namespace.kubectl(*stop, '{"spec": {"stopPolicy": "None"}}')
    seen(cluster, "run-e-1", lambda job: runs(job) and job.attempt != first.attempt)
