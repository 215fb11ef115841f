"""A real cluster, through kubectl and helm, as those see it who run it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bearloop.client import Client

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
"""Seconds that anything may take on a busy or slow machine."""
PAUSE = 0.2
"""Seconds between two looks."""
EVENTS = 30
"""Lines of each list that a failure shows."""


class CommandError(AssertionError):
    """A command ended badly: says which, and what it printed."""


@dataclass(frozen=True)
class Namespace:
    """One namespace, and what a person can do in it."""

    name: str

    def kubectl(self, *words: str, content: str | None = None) -> str:
        """Run kubectl here."""
        return run("kubectl", "--namespace", self.name, *words, content=content)

    def get(self, *words: str) -> dict[str, Any]:
        """Return an object, or a list of them under `items`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods of a selector that are not about to end, the oldest first."""
        found = self.get("pods", "-l", selector, "--sort-by", "{.metadata.creationTimestamp}")
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def running(self, selector: str) -> list[str]:
        """Return the names of the pods of a selector that run."""
        pods = self.pods(selector)
        return [p["metadata"]["name"] for p in pods if p["status"].get("phase") == "Running"]

    def evict(self, pod: str) -> None:
        """Evict a pod as draining a node does."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        }
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        run("kubectl", "create", "--raw", path, "-f", "-", content=json.dumps(eviction))

    def kill(self, pod: str) -> None:
        """Delete a pod at once, without a word to its processes."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def address(self, service: str) -> str:
        """Return `host:port` of a Service, for who is outside the cluster's DNS."""
        spec = self.get("service", service)["spec"]
        return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"

    def outside(self, url: str) -> str:
        """Return an address for the one that pods use."""
        service = (urlsplit(url).hostname or "").partition(".")[0]
        return f"http://{self.address(service)}"

    def secret(self, name: str) -> dict[str, str]:
        """Return a Secret's content."""
        template = "{{range $k, $v := .data}}{{$k}} {{$v | base64decode}}\n{{end}}"
        lines = self.kubectl("get", "secret", name, "-o", f"go-template={template}").splitlines()
        return dict(line.split(" ", 1) for line in lines if line)


@dataclass(frozen=True)
class Release:
    """bearloop, installed by its chart."""

    namespace: Namespace
    name: str
    url: str
    """Of the API."""
    token: str
    """The first one: an admin's."""

    def client(self, project: str = "main") -> Client:
        """Open the SDK as the admin; who opens it closes it."""
        return Client(self.url, self.token, project=project)


def advertise_gpus(count: int) -> None:
    """Let the node say that it has so many GPUs; there is no device behind them."""
    node = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(count)}]
    words = ("--subresource=status", "--type=json", "-p", json.dumps(patch))
    run("kubectl", "patch", "node", node, *words)


def run(*words: str, content: str | None = None) -> str:
    """Run a command; return what it prints; raises CommandError."""
    done = subprocess.run(
        words,
        input=content,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def at_work() -> str:
    """Return what is not as it should be: pods that wait, warnings, what a node lacks."""
    looks = (
        ("get", "pods", "-A", "--field-selector=status.phase!=Succeeded", "-o", "wide"),
        ("get", "events", "-A", "--sort-by=.lastTimestamp", "--field-selector=type!=Normal"),
        ("get", "nodes", "-o", "jsonpath={range .items[*].status.conditions[*]}{.message}. {end}"),
    )
    try:
        said = [run("kubectl", *words).splitlines()[-EVENTS:] for words in looks]
    except (CommandError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "\n\n".join("\n".join(lines) for lines in said)


def until(holds: Callable[[], bool], what: str, *, limit: float = PATIENCE) -> None:
    """Look until it holds; fails with what was awaited."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(PAUSE)


def values_files() -> Sequence[str]:
    """Return helm's options for the evaluation profile, and what this cluster needs besides."""
    files = ["charts/bearloop/values-evaluation.yaml", "tests/cluster/values.yaml"]
    files += os.environ.get("BEARLOOP_TEST_VALUES", "").split()
    return [word for file in files for word in ("--values", file)]
