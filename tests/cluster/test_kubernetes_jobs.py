"""Jobs on a real cluster, as the worker launches, observes and removes them."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.protocol import Phase
from tests.cluster.jobs import (
    LISTENS,
    SLEEPS,
    asked,
    ended,
    gone,
    has_kueue,
    opened_cluster,
    opened_namespace,
    pod_of,
    release_rules,
    runs,
    seen,
)
from tests.cluster.rig import PATIENCE, Namespace, until

NAME = "bearloop-test-jobs"


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with opened_namespace(NAME) as opened:
        yield opened


@pytest.fixture
def rules(namespace: Namespace, request: pytest.FixtureRequest) -> KubernetesRules:
    return release_rules(namespace, request.node.name)


@pytest.fixture
def api(namespace: Namespace) -> Iterator[KubernetesApi]:
    opened = KubernetesApi(NAME, timeout=timedelta(seconds=20))
    yield opened
    opened.close()


@pytest.fixture
def cluster(api: KubernetesApi, rules: KubernetesRules) -> Iterator[KubernetesCluster]:
    opened = opened_cluster(api, rules)
    yield opened
    opened.end()
    for job in opened.jobs():
        opened.remove(job.name)


def test_runs_to_its_end_with_all_that_it_was_told(cluster: KubernetesCluster) -> None:
    told = """
import os, pathlib
pathlib.Path(os.environ['TMPDIR'], 'file').write_text('x')
names = ('BEARLOOP_ATTEMPT', 'BEARLOOP_JOB', 'AWS_ACCESS_KEY_ID', 'AWS_ENDPOINT_URL', 'HOME')
print(*(os.environ[name] for name in names), os.getuid())
print(pathlib.Path('/var/run/secrets/kubernetes.io').exists(), os.access('/', os.W_OK))
"""
    assert cluster.job("run-a-1") is None
    cluster.launch(asked("run-a-1", told))
    job = seen(cluster, "run-a-1", ended)
    assert (job.phase, job.exit_code, job.reason) == (Phase.succeeded, 0, None)
    (log,) = cluster.logs("run-a-1").values()
    assert log == f"{job.attempt} j me http://store:9000 /scratch 10001\nFalse False\n"
    assert [job.name for job in cluster.jobs()] == ["run-a-1"]
    cluster.remove("run-a-1")
    gone(cluster, "run-a-1")
    assert cluster.jobs() == []
    assert cluster.logs("run-a-1") == {}


def test_launching_twice_is_launching_once(
    api: KubernetesApi, rules: KubernetesRules, cluster: KubernetesCluster
) -> None:
    others = [opened_cluster(api, rules) for _ in range(3)]
    threads = [
        threading.Thread(target=other.launch, args=(asked("run-b-1", LISTENS),))
        for other in (cluster, *others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = seen(cluster, "run-b-1", runs)
    cluster.launch(asked("run-b-1", SLEEPS))
    assert seen(cluster, "run-b-1", runs).attempt == first.attempt
    assert len(api.list("Pod", "bearloop.io/job=run-b-1")) == 1
    for other in others:
        other.end()


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("raise SystemExit(42)", 42, None),
        ("raise SystemExit(3)", 3, "it crashed with exit code 3"),
        ("raise ValueError('no bears')", 1, "it crashed with exit code 1: ValueError: no bears"),
        (
            "x = [bytearray(2**20) for _ in range(500)]",
            137,
            "out of memory: it used more than its limit of 64Mi",
        ),
    ],
    ids=["input-at-fault", "crash", "error", "memory"],
)
def test_says_how_it_failed(
    cluster: KubernetesCluster, program: str, code: int, reason: str | None
) -> None:
    cluster.launch(asked("run-c-1", program))
    job = seen(cluster, "run-c-1", ended)
    assert (job.phase, job.exit_code, job.reason) == (Phase.failed, code, reason)
    assert not job.disrupted
    cluster.remove("run-c-1")
    gone(cluster, "run-c-1")


def test_an_interrupted_pod_is_replaced_and_is_another_attempt(
    cluster: KubernetesCluster, namespace: Namespace
) -> None:
    cluster.launch(asked("run-d-1", LISTENS))
    first = seen(cluster, "run-d-1", runs)
    namespace.evict(pod_of(namespace, "run-d-1"))
    left = seen(cluster, "run-d-1", lambda job: job.reason is not None)
    assert left.reason is not None
    assert "it was evicted" in left.reason or "starts" in left.reason
    second = seen(cluster, "run-d-1", lambda job: runs(job) and job.attempt != first.attempt)
    namespace.kubectl("delete", "pod", pod_of(namespace, "run-d-1"), "--wait=false")
    third = seen(
        cluster,
        "run-d-1",
        lambda job: runs(job) and job.attempt not in {first.attempt, second.attempt},
    )
    until(lambda: str(third.attempt) in "".join(cluster.logs("run-d-1").values()), "its log")


def test_one_that_leaves_by_itself_is_not_counted(cluster: KubernetesCluster) -> None:
    cluster.launch(asked("run-e-1", "raise SystemExit(75)"))
    job = seen(cluster, "run-e-1", lambda job: job.reason is not None and "again" in job.reason)
    assert job.phase is Phase.pending
    assert job.reason == "it was interrupted after a checkpoint; it starts again"


def test_what_is_removed_is_there_until_its_pod_is_gone(
    cluster: KubernetesCluster, api: KubernetesApi
) -> None:
    slow = LISTENS.replace("print('interrupted')", "time.sleep(2)")
    cluster.launch(asked("run-f-1", slow))
    attempt = seen(cluster, "run-f-1", runs).attempt
    cluster.remove("run-f-1")
    job = cluster.job("run-f-1")
    assert job is not None
    assert (job.phase, job.attempt) == (Phase.running, attempt)
    assert job.reason is not None
    assert job.reason.startswith("it was asked to end on node ")
    cluster.remove("run-f-1")
    gone(cluster, "run-f-1")
    assert api.list("Pod", "bearloop.io/job=run-f-1") == []


def test_a_wrong_image_is_named_with_the_registrys_words(
    api: KubernetesApi, rules: KubernetesRules
) -> None:
    wrong = rules.trainer.model_copy(update={"image": "localhost/no-such-image:1"})
    cluster = opened_cluster(api, rules.model_copy(update={"trainer": wrong}))
    cluster.launch(asked("run-g-1", SLEEPS))
    job = seen(cluster, "run-g-1", lambda job: "image" in (job.reason or ""))
    seen(cluster, "run-g-1", lambda job: "cannot pull" in (job.reason or ""))
    assert job.phase is Phase.pending
    assert job.reason is not None
    assert "localhost/no-such-image:1" in job.reason
    cluster.remove("run-g-1")
    gone(cluster, "run-g-1")
    cluster.end()


def test_a_missing_secret_is_named(api: KubernetesApi, rules: KubernetesRules) -> None:
    wrong = rules.trainer.model_copy(update={"secrets": ("store", "no-such-secret")})
    cluster = opened_cluster(api, rules.model_copy(update={"trainer": wrong}))
    cluster.launch(asked("run-h-1", SLEEPS))
    job = seen(cluster, "run-h-1", lambda job: "Secret" in (job.reason or ""))
    way_out = f"the Secret no-such-secret is missing in namespace {NAME}: the operator makes it"
    assert (job.phase, job.reason) == (Phase.pending, way_out)
    cluster.remove("run-h-1")
    gone(cluster, "run-h-1")
    cluster.end()


def test_the_third_of_three_on_two_gpus_waits_and_says_for_whom(
    cluster: KubernetesCluster,
) -> None:
    for number in (7, 9):
        cluster.launch(asked(f"run-i{number}-1", LISTENS, gpus=1, title=f"run {number}"))
        seen(cluster, f"run-i{number}-1", runs)
    cluster.launch(asked("run-i10-1", LISTENS, gpus=1, title="run 10"))
    job = seen(cluster, "run-i10-1", lambda job: "GPU" in (job.reason or ""))
    reason = "waits for 1 GPU: 2 of 2 in use by run 7 and run 9"
    assert (job.phase, job.reason) == (Phase.pending, reason)
    cluster.launch(asked("run-i11-1", LISTENS, gpus=8))
    job = seen(cluster, "run-i11-1", lambda job: "GPU" in (job.reason or ""))
    assert job.reason == "no node has 8 GPUs: the most is 2"
    cluster.remove("run-i7-1")
    seen(cluster, "run-i10-1", runs)


def test_what_fits_nowhere_says_so(cluster: KubernetesCluster) -> None:
    cluster.launch(asked("run-k-1", SLEEPS, cpu=500))
    job = seen(cluster, "run-k-1", lambda job: "CPU" in (job.reason or ""))
    assert job.reason is not None
    assert job.reason.startswith("no node has 500 CPUs: the most is ")
    cluster.launch(asked("run-l-1", SLEEPS, memory="900Gi"))
    job = seen(cluster, "run-l-1", lambda job: "memory" in (job.reason or ""))
    assert job.reason is not None
    assert job.reason.startswith("no node has 900Gi of memory: the most is ")


def test_a_deadline_ends_it(cluster: KubernetesCluster) -> None:
    cluster.launch(asked("run-m-1", LISTENS, deadline=timedelta(seconds=5)))
    job = seen(cluster, "run-m-1", ended)
    assert (job.phase, job.exit_code) == (Phase.failed, None)
    assert job.reason == "it took longer than its deadline of 0:00:05"


@pytest.mark.skipif(has_kueue(), reason="test_kueue.py tells it with a real Kueue")
def test_a_suspended_job_waits_in_its_queue(
    cluster: KubernetesCluster, namespace: Namespace
) -> None:
    cluster.launch(asked("run-n-1", LISTENS, queue="team"))
    seen(cluster, "run-n-1", runs)
    suspend = json.dumps({"spec": {"suspend": True}})
    namespace.kubectl("patch", "job", "run-n-1", "-p", suspend)
    job = seen(cluster, "run-n-1", lambda job: job.phase is Phase.pending)
    assert job.reason == "waits in queue team"
    namespace.kubectl("patch", "job", "run-n-1", "-p", suspend.replace("true", "false"))
    seen(cluster, "run-n-1", runs)


def test_the_pods_of_several_nodes_find_each_other(cluster: KubernetesCluster) -> None:
    meets = """
import os, socket, time
index, master = os.environ['JOB_COMPLETION_INDEX'], os.environ['BEARLOOP_MASTER']
if index == '0':
    with socket.create_server(('', 29500)) as server:
        print('met', server.accept()[0].recv(9).decode())
else:
    for _ in range(100):
        try:
            socket.create_connection((master, 29500)).sendall(b'rank ' + index.encode())
            break
        except OSError:
            time.sleep(.3)
"""
    cluster.launch(asked("run-o-1", meets, nodes=2))
    assert seen(cluster, "run-o-1", ended).phase is Phase.succeeded
    assert "met rank 1\n" in cluster.logs("run-o-1").values()
    cluster.remove("run-o-1")
    gone(cluster, "run-o-1")
    assert cluster.jobs() == []


@pytest.mark.parametrize("lost", ["evicted", "interrupted"])
def test_with_one_node_lost_the_whole_launch_is_and_it_is_not_counted(
    cluster: KubernetesCluster, namespace: Namespace, lost: str
) -> None:
    leaves = "import os, sys, time\nif os.environ['JOB_COMPLETION_INDEX'] == '1': sys.exit(75)\n"
    program = LISTENS if lost == "evicted" else leaves + LISTENS
    cluster.launch(asked("run-p-1", program, nodes=2))
    if lost == "evicted":
        seen(cluster, "run-p-1", lambda job: runs(job) and job.reason is None)
        namespace.evict(namespace.running("bearloop.io/job=run-p-1")[1])
    job = seen(cluster, "run-p-1", ended)
    assert job.phase is Phase.failed
    assert job.disrupted or job.exit_code == 75
    cluster.remove("run-p-1")
    gone(cluster, "run-p-1")


def test_a_crash_of_one_of_several_nodes_is_a_crash(cluster: KubernetesCluster) -> None:
    crashes = (
        "import os, sys, time\nif os.environ['JOB_COMPLETION_INDEX'] == '1':\n    sys.exit(3)\n"
    )
    cluster.launch(asked("run-q-1", crashes + LISTENS, nodes=2))
    job = seen(cluster, "run-q-1", ended)
    assert (job.exit_code, job.disrupted) == (3, False)


def test_everything_goes_with_its_owner(
    cluster: KubernetesCluster, rules: KubernetesRules, namespace: Namespace
) -> None:
    cluster.launch(asked("run-r-1", LISTENS, nodes=2))
    seen(cluster, "run-r-1", runs)
    namespace.kubectl("delete", "configmap", rules.owner)
    gone(cluster, "run-r-1")
    assert cluster.jobs() == []


def test_without_its_owner_nothing_is_launched(
    cluster: KubernetesCluster, rules: KubernetesRules, namespace: Namespace
) -> None:
    namespace.kubectl("delete", "configmap", rules.owner)
    with pytest.raises(ClusterError, match=f"ConfigMap {rules.owner}.*helm upgrade"):
        cluster.launch(asked("run-s-1", SLEEPS))


def test_a_change_wakes_who_waits_and_names_the_job(
    cluster: KubernetesCluster, namespace: Namespace
) -> None:
    cluster.launch(asked("run-t-1", LISTENS))
    seen(cluster, "run-t-1", runs)
    cluster.wait(timedelta(seconds=1))
    cluster.changed()
    threading.Timer(0.5, namespace.evict, [pod_of(namespace, "run-t-1")]).start()
    deadline = time.monotonic() + PATIENCE
    while "run-t-1" not in cluster.changed():
        assert time.monotonic() < deadline, "nothing was heard"
        cluster.wait(timedelta(seconds=PATIENCE))
