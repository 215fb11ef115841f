"""Every profile of the chart, as a real API server judges it."""

import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from api.cluster.job_objects import job_object, service_object
from api.cluster.kubernetes_cluster import PROGRAMS
from api.cluster.kubernetes_rules import read_rules
from api.cluster.protocol import DeploymentRequest, JobRequest
from api.cluster.server_objects import Place, server_objects
from tests.chart.chart import PROFILES, Rendered, Thing, render
from tests.cluster.rig import Namespace, run

RELEASE = "bear"
OPERATORS = {"ServiceMonitor", "HTTPRoute"}
"""Kinds that a cluster knows only where their operator is installed."""
JOBS = (
    JobRequest(name="run-a-1", program="trainer", environment={}, gpus=1, nodes=2),
    JobRequest(name="import-b-1", program="importer", environment={}, deadline=timedelta(hours=1)),
)
SERVERS = DeploymentRequest(
    name="bears-1", digest="d", environment={}, token_hashes=("ab",), most_replicas=3
)


@pytest.fixture(scope="module")
def restricted() -> Iterator[Namespace]:
    """A namespace that says of every pod that is not `restricted` what is wrong with it."""
    name = "bearloop-dry-run"
    run("kubectl", "create", "namespace", name)
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    run("kubectl", "label", "namespace", name, *labels)
    yield Namespace(name)
    run("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("name", PROFILES)
def test_the_api_server_accepts_every_object_of_a_profile(restricted: Namespace, name: str) -> None:
    known = [thing for thing in rendered(name, restricted).things if is_known(thing["kind"])]
    done = dry_run(known, restricted)

    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout.count("(server dry run)") == len(known)


@pytest.mark.parametrize("name", PROFILES)
def test_the_api_server_accepts_what_the_worker_makes_by_a_profile(
    restricted: Namespace, name: str, tmp_path: Path
) -> None:
    content = render(PROFILES[name], release=RELEASE).one("ConfigMap", "-cluster")["data"]
    (tmp_path / "cluster.json").write_text(content["cluster.json"])
    rules = read_rules(tmp_path / "cluster.json").model_copy(update={"namespace": restricted.name})
    made = [
        *(job_object(asked, rules, owner_uid="uid", programs=PROGRAMS) for asked in JOBS),
        service_object(JOBS[0], rules, owner_uid="uid"),
        *server_objects(SERVERS, Place(rules, PROGRAMS["inference"], owner="uid")),
    ]
    applied = dry_run(made, restricted)

    assert "Warning" not in applied.stderr, applied.stderr
    assert applied.stdout.count("(server dry run)") == len(made) == 8


def test_a_secret_that_is_missing_is_named_before_anything_is_made(restricted: Namespace) -> None:
    chart = ("charts/bearloop", "--namespace", restricted.name)
    with pytest.raises(AssertionError, match=r"database.existingSecret: there is no Secret"):
        run("helm", "install", "bear", *chart, "--values", str(PROFILES["production"]))
    words = ("create", "secret", "generic", "bearloop-database", "--from-literal=program-url=x")
    restricted.kubectl(*words)

    with pytest.raises(AssertionError, match=r"Secret \"bearloop-database\" has no key owner-url"):
        run("helm", "install", "bear", *chart, "--values", str(PROFILES["production"]))
    assert restricted.kubectl("get", "deployments,jobs,configmaps").count("bear-") == 0


def dry_run(things: Sequence[Thing], namespace: Namespace) -> subprocess.CompletedProcess[str]:
    """Have the API server judge the objects; fails with what it says of one that it refuses."""
    done = subprocess.run(
        ["kubectl", "apply", "--namespace", namespace.name, "--dry-run=server", "-f", "-"],
        input=yaml.safe_dump_all(things),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def rendered(name: str, namespace: Namespace) -> Rendered:
    """Render without the pod of `helm test`: only what it needs beside it can be a dry run."""
    things = render(PROFILES[name], release=RELEASE).things
    hooks = [t for t in things if "helm.sh/hook" in (t["metadata"].get("annotations") or {})]
    for thing in things:
        for subject in thing.get("subjects", ()):
            subject["namespace"] = namespace.name
    return Rendered(yaml.safe_dump_all([thing for thing in things if thing not in hooks]))


def is_known(kind: str) -> bool:
    """Tell whether this cluster knows the kind; only those of operators may be unknown."""
    if kind not in OPERATORS:
        return True
    return kind in run("kubectl", "api-resources", "--no-headers")
