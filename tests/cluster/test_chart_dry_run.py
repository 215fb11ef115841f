"""Every profile of the chart, as a real API server judges it."""

import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.chart.chart import PROFILES, Rendered, render
from tests.cluster.rig import Namespace, run

RELEASE = "bear"
OPERATORS = {"ServiceMonitor", "HTTPRoute"}
"""Kinds that a cluster knows only where their operator is installed."""


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
    done = subprocess.run(
        ["kubectl", "apply", "--namespace", restricted.name, "--dry-run=server", "-f", "-"],
        input=yaml.safe_dump_all(known),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout.count("(server dry run)") == len(known)


def test_a_secret_that_is_missing_is_named_before_anything_is_made(restricted: Namespace) -> None:
    chart = ("charts/bearloop", "--namespace", restricted.name)
    with pytest.raises(AssertionError, match=r"database.existingSecret: there is no Secret"):
        run("helm", "install", "bear", *chart, "--values", str(PROFILES["production"]))
    words = ("create", "secret", "generic", "bearloop-database", "--from-literal=program-url=x")
    restricted.kubectl(*words)

    with pytest.raises(AssertionError, match=r"Secret \"bearloop-database\" has no key owner-url"):
        run("helm", "install", "bear", *chart, "--values", str(PROFILES["production"]))
    assert restricted.kubectl("get", "deployments,jobs,configmaps").count("bear-") == 0


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
