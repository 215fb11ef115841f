"""How long a run waits for us: POST to Job, to pod, and from the pod's end to the state on the run.

The peer is kubectl: `kubectl create` of the same Job and `kubectl wait` for its end, in turns with
ours. Both are seen by one observer, a watch on the namespace.

    python benchmarks/job_latency.py NAMESPACE API_URL TOKEN [--rounds 30]

KUBECONFIG names the cluster; the project `main` needs a dataset `shapes` with a frozen version.
The run asks for a GPU device where none is, so that it ends by itself right after its start.
"""

import argparse
import json
import subprocess
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bearloop.client import Client

LIMIT = 180.0
"""Seconds that one step may take."""


@dataclass
class Observer:
    """When each Job was there, had a running pod, and one that had ended: names to seconds."""

    namespace: str
    there: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def watch(self, kind: str, note: Callable[[dict[str, Any], float], None]) -> None:
        """Follow one kind for ever, in a thread."""
        command = ["kubectl", "-n", self.namespace, "get", kind, "-w", "-o", "json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in process.stdout:
            text += line
            if line.rstrip() == "}":
                found, _ = decoder.raw_decode(text)
                note(found, time.monotonic())
                text = ""

    def note_job(self, job: dict[str, Any], at: float) -> None:
        """Take what a Job says of itself."""
        name = job["metadata"]["name"]
        self.there.setdefault(name, at)
        self.manifests.setdefault(name, job)

    def note_pod(self, pod: dict[str, Any], at: float) -> None:
        """Take what a pod says of itself."""
        job = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name")
        phase = pod["status"].get("phase")
        if job and phase in ("Running", "Succeeded", "Failed"):
            self.running.setdefault(job, at)
        # A run's Job and pod are removed as soon as its result is in the tables.
        if job and (phase in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]):
            self.ended.setdefault(job, at)


def main() -> None:
    """Take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("namespace")
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    observer = Observer(given.namespace)
    for kind, note in (("jobs", observer.note_job), ("pods", observer.note_pod)):
        threading.Thread(target=observer.watch, args=(kind, note), daemon=True).start()
    # The release's own Jobs come first: none of them is a run's.
    await_(lambda: observer.there or None, "the Jobs that are there already")
    time.sleep(2)
    client = Client(given.url, given.token, project="main")
    ours: list[tuple[float, float, float]] = []
    peers: list[tuple[float, float, float]] = []
    for number in range(given.rounds):
        name, times = one_run(client, observer)
        ours.append(times)
        peers.append(one_kubectl(observer, observer.manifests[name], f"peer-{number}"))
        print(number + 1, [f"{t:.2f}" for t in (*times, *peers[-1])], flush=True)
    for place, what in enumerate(("start -> Job", "start -> pod", "pod ended -> known")):
        print(row(what, [t[place] for t in ours], [t[place] for t in peers]))


def one_run(client: Client, observer: Observer) -> tuple[str, tuple[float, float, float]]:
    """Start a run; return its Job's name and the three times, in seconds."""
    before = set(observer.there)
    began = time.monotonic()
    (run,) = client.runs.start("shapes", device="cuda", recipe="from-scratch")
    name = await_(lambda: next(iter(set(observer.there) - before), None), "the Job")
    await_(lambda: observer.running.get(name), "its pod")
    await_(lambda: client.runs.get(run.number).ended or None, "the state on the run")
    known = time.monotonic()
    ended = await_(lambda: observer.ended.get(name), "the pod's end")
    # The result is in the store before the process ends, so the run may be told before the pod.
    after = max(0.0, known - ended)
    return name, (observer.there[name] - began, observer.running[name] - began, after)


def one_kubectl(
    observer: Observer, manifest: dict[str, Any], name: str
) -> tuple[float, float, float]:
    """Do the same with kubectl alone."""
    job = plain(manifest, name)
    here = ["kubectl", "-n", observer.namespace]
    began = time.monotonic()
    subprocess.run([*here, "create", "-f", "-"], input=json.dumps(job), text=True, check=True)
    wait = [*here, "wait", "--for=condition=Failed", f"job/{name}", f"--timeout={LIMIT:.0f}s"]
    subprocess.run(wait, check=True)
    known = time.monotonic()
    ended = await_(lambda: observer.ended.get(name), "the pod's end")
    subprocess.run([*here, "delete", f"job/{name}", "--wait=false"], check=True)
    return observer.there[name] - began, observer.running[name] - began, known - ended


def plain(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the same Job under another name, without what the server added."""
    job = deepcopy(manifest)
    job["metadata"] = {"name": name}
    del job["status"]
    spec = job["spec"]
    for added in ("selector", "manualSelector"):
        spec.pop(added, None)
    labels = spec["template"]["metadata"].get("labels", {})
    mine = {key: text for key, text in labels.items() if "kubernetes.io/" not in key}
    spec["template"]["metadata"]["labels"] = {
        key: text for key, text in mine.items() if not key.startswith(("job-", "controller-"))
    }
    return job


def await_(look: Callable[[], Any], what: str) -> Any:
    """Look often until something is there."""
    deadline = time.monotonic() + LIMIT
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {LIMIT:.0f} s")
        time.sleep(0.01)
    return found


def row(what: str, ours: list[float], peers: list[float]) -> str:
    """Write one line of the table: median and p99 of each, and the ratio of the p99."""
    ratio = worst(ours) / max(worst(peers), 1e-3)
    return (
        f"{what:20} ours {median(ours):6.2f} p99 {worst(ours):6.2f}   "
        f"kubectl {median(peers):6.2f} p99 {worst(peers):6.2f}   ratio {ratio:.2f}"
    )


def worst(times: list[float]) -> float:
    """Return the 99th percentile; of 30 that is the slowest."""
    return sorted(times)[max(0, round(0.99 * len(times)) - 1)]


if __name__ == "__main__":
    main()
