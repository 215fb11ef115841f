"""The worker's rights are the ones it uses: no verb that it never asks for, none that it lacks."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.cluster.kubernetes import KINDS, KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.cluster.kubernetes_rules import PodRules
from api.cluster.protocol import Phase
from tests.cluster.jobs import COMMAND, IMAGE, LISTENS, asked, gone, runs, seen
from tests.cluster.rig import Namespace, Release, run, until
from tests.cluster.serving import SERVER, opened_namespace, request, rules

NAME, ACCOUNT, BINDING = "bearloop-rights", "worker", "bearloop-rights-nodes"
CALL = timedelta(seconds=20)
Right = tuple[str, str, str]
"""Group, resource and verb, as a Role names them."""


class RecordingApi(KubernetesApi):
    """The API server, asked as the worker; writes down the rights that its calls take."""

    def __init__(self, namespace: str, kubeconfig: Path) -> None:
        super().__init__(namespace, timeout=CALL, kubeconfig=str(kubeconfig))
        self.used: set[Right] = set()

    def _send(self, request: Any, **more: Any) -> Any:
        path, resource = KINDS[request.kind]
        group = "" if path == "/api/v1" else path.split("/")[2]
        resource += f"/{request.part}" if request.part else ""
        self.used |= {(group, resource, verb) for verb in verbs(request)}
        return super()._send(request, **more)


def verbs(request: Any) -> set[str]:
    """Return the verbs of a Role that a request takes."""
    if request.method != "GET":
        # What is applied may have to be made.
        applied = {"create"} if "fieldManager" in request.query else set()
        return applied | {{"POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]}
    if "watch" in request.query:
        return {"watch"}
    return {"get"} if request.name else {"list"}


@pytest.fixture
def granted(release: Release) -> Iterator[set[Right]]:
    """What the release's Role and ClusterRole allow, given to an account of this namespace."""
    name = f"{release.name}-bearloop-worker"
    role = release.namespace.get("role", name)
    subject = {"kind": "ServiceAccount", "name": name, "namespace": release.namespace.name}
    bindings = release.namespace.get("clusterrolebindings")["items"]
    (nodes,) = (
        binding["roleRef"]["name"] for binding in bindings if subject in binding.get("subjects", [])
    )
    rules = [*role["rules"], *release.namespace.get("clusterrole", nodes)["rules"]]
    with opened_namespace(NAME) as namespace:
        namespace.kubectl("create", "configmap", f"{release.name}-bearloop-owner")
        namespace.kubectl("create", "serviceaccount", ACCOUNT)
        own = {"apiVersion": role["apiVersion"], "kind": "Role", "rules": role["rules"]}
        own["metadata"] = {"name": ACCOUNT}
        namespace.kubectl("apply", "-f", "-", content=json.dumps(own))
        account = f"--serviceaccount={NAME}:{ACCOUNT}"
        namespace.kubectl("create", "rolebinding", ACCOUNT, f"--role={ACCOUNT}", account)
        run("kubectl", "delete", "clusterrolebinding", BINDING, "--ignore-not-found")
        run("kubectl", "create", "clusterrolebinding", BINDING, f"--clusterrole={nodes}", account)
        yield {
            (group, resource, verb)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        run("kubectl", "delete", "clusterrolebinding", BINDING)


@pytest.fixture
def api(granted: set[Right], tmp_path: Path) -> Iterator[RecordingApi]:
    """The API server by a token of that account alone."""
    config = yaml.safe_load(run("kubectl", "config", "view", "--raw", "--minify", "-o", "yaml"))
    token = run("kubectl", "create", "token", ACCOUNT, "--namespace", NAME).strip()
    (user,) = config["users"]
    user["user"] = {"token": token}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    opened = RecordingApi(NAME, file)
    yield opened
    opened.close()


def test_the_worker_s_rights_are_those_it_uses(
    release: Release, granted: set[Right], api: RecordingApi
) -> None:
    owner = f"{release.name}-bearloop-owner"
    small = PodRules(image=IMAGE, secrets=(), cpu=0.05, memory="64Mi")
    given = rules(NAME, IMAGE).model_copy(update={"owner": owner, "trainer": small})
    programs = {"trainer": COMMAND, "inference": ("python", "-c", SERVER)}
    cluster = KubernetesCluster(api, given, call_deadline=CALL, programs=programs)
    cluster.begin()
    try:
        run_jobs(cluster, Namespace(NAME))
        serve_bundles(cluster)
    finally:
        cluster.end()

    assert granted - api.used == set(), "granted, and never used"
    assert api.used - granted == set(), "used, and not granted"


def run_jobs(cluster: KubernetesCluster, namespace: Namespace) -> None:
    """Launch, see why some wait, read logs, remove."""
    cluster.launch(asked("two-1", LISTENS, nodes=2))
    seen(cluster, "two-1", runs)
    until(lambda: len(cluster.logs("two-1")) == 2, "both have said something")
    assert [job.name for job in cluster.jobs()] == ["two-1"]
    cluster.launch(asked("greedy-1", LISTENS, gpus=999))
    seen(cluster, "greedy-1", lambda job: "GPU" in (job.reason or ""))
    cluster.launch(asked("queued-1", LISTENS))
    # As Kueue does with what waits for its turn.
    label = ("label", "job", "queued-1", "kueue.x-k8s.io/queue-name=gpus")
    namespace.kubectl(*label)
    namespace.kubectl("patch", "job", "queued-1", "--patch", '{"spec": {"suspend": true}}')
    seen(cluster, "queued-1", lambda job: job.phase is Phase.pending and bool(job.reason))
    for name in ("two-1", "greedy-1", "queued-1"):
        cluster.remove(name)
        gone(cluster, name)


def serve_bundles(cluster: KubernetesCluster) -> None:
    """Deploy, change the tokens and the size, ask for it, take it away."""
    for hashes, most in ((("one",), 2), (("one", "two"), 2), (("two",), 1)):
        cluster.deploy(request("bears", token_hashes=hashes, most_replicas=most))
        until(lambda: bool(cluster.deployment("bears")), "it is there")

    def answers() -> bool:
        found = cluster.deployment("bears")
        return found is not None and found.ready

    until(answers, "its server is ready")
    cluster.undeploy("bears")
