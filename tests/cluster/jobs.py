"""A namespace for jobs on a real cluster, and what a test asks of them."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_cluster import PROGRAMS, KubernetesCluster
from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.protocol import JobRequest, Phase, SeenJob
from tests.cluster.rig import PATIENCE, CommandError, Namespace, run

IMAGE = os.environ.get("BEARLOOP_TEST_JOB_IMAGE", "localhost/bearloop-api:0.1.0")
"""Any image with a `python` that user 10001 may run."""
GPU = "example.com/test-gpu"
"""A resource of its own: other tests advertise GPUs on the same node."""
COMMAND = ("python", "-u", "-c", "import os; exec(os.environ['PROGRAM'])")

SLEEPS = "import time; print('sleeps'); time.sleep(600)"
LISTENS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('interrupted'), sys.exit(75)))
print('hello from', os.environ['BEARLOOP_ATTEMPT'])
time.sleep(600)
"""


@contextmanager
def opened_namespace(name: str) -> Iterator[Namespace]:
    """Make a namespace that takes restricted pods only, with what jobs need; remove it after."""
    opened = Namespace(name)
    run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=true")
    run("kubectl", "create", "namespace", name)
    run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    opened.kubectl("create", "serviceaccount", "job")
    opened.kubectl("create", "secret", "generic", "store", "--from-literal=AWS_ACCESS_KEY_ID=me")
    advertise(2)
    yield opened
    run("kubectl", "delete", "namespace", name, "--wait=false")
    advertise(0)


def release_rules(namespace: Namespace, test: str) -> KubernetesRules:
    """Give a test a release of its own in the namespace."""
    release = re.sub(r"[^a-z0-9]+", "-", test)[-50:].strip("-")
    namespace.kubectl("create", "configmap", f"{release}-owner")
    pod = {
        "image": IMAGE,
        "secrets": ["store"],
        "environment": {"AWS_ENDPOINT_URL": "http://store:9000"},
        "cpu": 0.05,
        "memory": "64Mi",
        "shared_memory": "16Mi",
        "scratch": "64Mi",
    }
    return KubernetesRules.model_validate(
        {
            "namespace": namespace.name,
            "release": release,
            "owner": f"{release}-owner",
            "service_account": "job",
            "gpu_resource": GPU,
            "grace": 5,
            "importer": pod,
            "trainer": pod,
            "inference": pod,
        }
    )


def opened_cluster(
    api: KubernetesApi, rules: KubernetesRules, command: Sequence[str] = COMMAND
) -> KubernetesCluster:
    """Watch; who opens it ends it."""
    programs = {**PROGRAMS, "importer": command, "trainer": command}
    opened = KubernetesCluster(api, rules, call_deadline=timedelta(seconds=20), programs=programs)
    opened.begin()
    return opened


def asked(name: str, program: str, **more: object) -> JobRequest:
    """Ask for a training job that runs some lines of Python."""
    environment = {"PROGRAM": program, "BEARLOOP_JOB": "j"}
    request = JobRequest(name, "trainer", environment, project="bears", title=name)
    return replace(request, **more)  # type: ignore[arg-type]


def seen(cluster: KubernetesCluster, name: str, when: Callable[[SeenJob], bool]) -> SeenJob:
    """Wait, as the worker does, until the job looks like that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        job = cluster.job(name)
        if job is not None and when(job):
            return job
        assert time.monotonic() < deadline, f"{name} is {job}"
        cluster.wait(timedelta(seconds=0.5))


def gone(cluster: KubernetesCluster, name: str) -> None:
    """Wait until nothing of the job is there."""
    deadline = time.monotonic() + PATIENCE
    while (job := cluster.job(name)) is not None:
        assert time.monotonic() < deadline, f"{name} is {job}"
        cluster.wait(timedelta(seconds=0.5))


def ended(job: SeenJob) -> bool:
    """Tell whether its last pod ended."""
    return job.phase in {Phase.succeeded, Phase.failed}


def runs(job: SeenJob) -> bool:
    """Tell whether it runs."""
    return job.phase is Phase.running


def pod_of(namespace: Namespace, name: str) -> str:
    """Return the job's one running pod."""
    (pod,) = namespace.running(f"bearloop.io/job={name}")
    return pod


@cache
def has_kueue() -> bool:
    """Tell whether the cluster that KUBECONFIG names has Kueue in it."""
    if "KUBECONFIG" in os.environ:
        with suppress(CommandError):
            run("kubectl", "get", "crd", "localqueues.kueue.x-k8s.io")
            return True
    return False


def advertise(count: int) -> None:
    """Let the node say that it has so many of the test's GPUs."""
    node = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    path = f"/status/capacity/{GPU.replace('/', '~1')}"
    patch = [{"op": "add", "path": path, "value": str(count)}]
    words = ("--subresource=status", "--type=json", "-p", json.dumps(patch))
    run("kubectl", "patch", "node", node, *words)
