"""Workers are killed and stalled: nothing is lost, nothing is done twice, nothing is revived."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

from bearloop.client import Client
from bearloop.client.waiting import wait_until_ended
from tests.cluster.rig import PATIENCE, Namespace, Release, until
from tests.life.pictures import recipe, shapes
from tests.life.story import GATES, Trained, await_promotion, await_run, bring_in

STALLING = "stalling"
STALLS = """
import pathlib, time
from api.jobs.reconcile import claim_job, reconcile_job
from api.settings import settings
from api.worker import build_cluster, build_workplace

class Stalling:
    launched = False
    def __init__(self, real):
        self.real = real
    def launch(self, request):
        print("stalls before", request.name, flush=True)
        while not pathlib.Path("/scratch/go").exists():
            time.sleep(0.1)
        self.real.launch(request)
        self.launched = True
        print("launched", request.name, flush=True)
    def __getattr__(self, name):
        return getattr(self.real, name)

cluster = Stalling(build_cluster(settings()))
place = build_workplace(settings(), cluster)
while not cluster.launched:
    job = claim_job(place)
    if job is not None:
        reconcile_job(place, job)
    time.sleep(0.1)
"""
"""A worker whose calls to create a Job wait until a file is there."""
WORKER = "app.kubernetes.io/component=worker"
KILLS = 10
APART = (1.0, 6.0)
"""Seconds between two kills, at random."""


def test_ten_killed_workers_lose_and_double_nothing(
    release: Release, client: Client, imported: Trained
) -> None:
    with killed_now_and_then(release.namespace) as kills:
        version = bring_in(client, shapes(seed=3), "killed")
        whole = recipe(epochs=8).model_dump(mode="json")
        asked = {"recipe": whole, "seed": 7, "gpus": 1, "device": "auto"}
        (run,) = client.runs.start("killed", version.number, **asked)
        bundle = await_run(client, run.number)
        client.endpoints.create("killed", gates=GATES[:2])
        promotion = client.endpoints.promote("killed", run.number)
        await_promotion(client, "killed", promotion.number)
        until(lambda: kills.count == KILLS, "ten workers were killed")
    done = client.runs.get(run.number)
    assert (done.state, done.launches, done.bundle_digest) == ("done", 1, bundle)
    assert [view.number for view in client.runs.list()].count(run.number) == 1
    assert len(list(client.datasets.images("killed"))) == len(shapes(seed=3).files)
    client.endpoints.delete("killed")
    made = ("jobs", "-l", "bearloop.io/job")
    until(lambda: not release.namespace.get(*made)["items"], "no job stays")


def test_a_stalled_worker_revives_no_cancelled_run(
    release: Release, client: Client, imported: Trained
) -> None:
    namespace = release.namespace
    scale_workers(release, 0)
    start_stalling_worker(release)
    whole = recipe(epochs=400).model_dump(mode="json")
    (run,) = client.runs.start(
        imported.dataset, imported.version.number, recipe=whole, gpus=1, device="auto"
    )

    def said() -> str:
        return namespace.kubectl("logs", STALLING)

    until(lambda: "stalls" in said(), "the worker is about to create the Job")
    client.runs.cancel(run.number)
    scale_workers(release, 1)
    ended = wait_until_ended(lambda: client.runs.get(run.number), limit=PATIENCE)
    assert ended.state == "cancelled"

    namespace.kubectl("exec", STALLING, "--", "touch", "/scratch/go")
    until(lambda: "launched" in said(), "it wakes, and creates what nobody wants any more")
    made = ("jobs", "-l", "bearloop.io/job")
    until(lambda: not namespace.get(*made)["items"], "the late launch is taken away")
    assert client.runs.get(run.number).state == "cancelled"
    namespace.kubectl("delete", "pod", STALLING, "--wait=false")


@dataclass
class Kills:
    """How often a worker was killed."""

    count: int = 0


@contextmanager
def killed_now_and_then(namespace: Namespace) -> Iterator[Kills]:
    """Kill the worker's pod at random moments while the block runs, ten times in all."""
    dice, kills, ended = random.Random(11), Kills(), Event()

    def kill() -> None:
        while kills.count < KILLS and not ended.wait(dice.uniform(*APART)):
            for pod in namespace.running(WORKER):
                namespace.kill(pod)
                kills.count += 1

    thread = Thread(target=kill)
    thread.start()
    try:
        yield kills
    finally:
        ended.set()
        thread.join()


def scale_workers(release: Release, count: int) -> None:
    """Let so many workers run in the cluster."""
    name = f"{release.name}-bearloop-worker"
    release.namespace.kubectl("scale", f"deployment/{name}", f"--replicas={count}")

    def settled() -> bool:
        status = release.namespace.get("deployment", name)["status"]
        return (status.get("replicas", 0), status.get("readyReplicas", 0)) == (count, count)

    until(settled, f"{count} workers are there")
    if count == 0:
        until(lambda: not release.namespace.pods(WORKER), "the workers have ended")


def start_stalling_worker(release: Release) -> None:
    """Start a worker of the release that stalls just before it creates a Job."""
    deployment = release.namespace.get("deployment", f"{release.name}-bearloop-worker")
    template = deployment["spec"]["template"]
    spec = {**template["spec"], "restartPolicy": "Never"}
    (worker,) = spec["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        worker.pop(probe, None)
    worker["command"] = ["python", "-c", STALLS]
    metadata = {"name": STALLING, "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    release.namespace.kubectl("apply", "-f", "-", content=json.dumps(pod))
    until(lambda: STALLING in release.namespace.running(WORKER), "the stalling worker runs")
