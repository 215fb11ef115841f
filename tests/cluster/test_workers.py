"""Workers are killed and stalled: nothing is lost, nothing is done twice, nothing is revived."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from api.cluster.protocol import Cluster, JobRequest
from api.jobs.reconcile import Workplace, claim_job, reconcile_job
from api.settings import Settings
from api.worker import build_cluster, build_workplace
from bearloop.client import Client
from bearloop.client.waiting import wait_until_ended
from tests.cluster.rig import PATIENCE, Namespace, Release, until
from tests.life.pictures import recipe, shapes
from tests.life.story import GATES, Trained, await_promotion, await_run, bring_in

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
    jobs = "batch/jobs"
    until(lambda: not release.namespace.get(jobs, "-l", "bearloop.io/job")["items"], "no job stays")


def test_a_stalled_worker_revives_no_cancelled_run(
    release: Release,
    client: Client,
    imported: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, stall = stalled_workplace(release, tmp_path, monkeypatch)
    scale_workers(release, 0)
    whole = recipe(epochs=400).model_dump(mode="json")
    (run,) = client.runs.start(
        imported.dataset, imported.version.number, recipe=whole, gpus=1, device="auto"
    )
    until(lambda: stalls_at_a_launch(place, stall), "the worker is about to create the Job")
    client.runs.cancel(run.number)
    scale_workers(release, 1)
    ended = wait_until_ended(lambda: client.runs.get(run.number), limit=PATIENCE)
    assert ended.state == "cancelled"

    stall.released.set()
    until(lambda: stall.launched.is_set(), "it wakes, and creates what nobody wants any more")
    (request,) = stall.requests
    until(lambda: stall.real.job(request.name) is None, "the late launch is taken away")
    assert client.runs.get(run.number).state == "cancelled"
    place.database.close()


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


@dataclass
class StallingCluster:
    """The real cluster, reached by a worker that stalls just before it creates a Job."""

    real: Cluster
    reached: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)
    launched: Event = field(default_factory=Event)
    requests: list[JobRequest] = field(default_factory=list)

    def launch(self, request: JobRequest) -> None:
        self.requests.append(request)
        self.reached.set()
        assert self.released.wait(PATIENCE)
        self.real.launch(request)
        self.launched.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def stalls_at_a_launch(place: Workplace, stall: StallingCluster) -> bool:
    """Make the stalling worker's steps, each in a thread, until one of them stalls."""
    if not stall.reached.is_set():
        job = claim_job(place)
        if job is not None:
            Thread(target=reconcile_job, args=(place, job), daemon=True).start()
    return stall.reached.wait(1)


def scale_workers(release: Release, count: int) -> None:
    """Let so many workers run in the cluster."""
    name = f"deployment/{release.name}-bearloop-worker"
    release.namespace.kubectl("scale", name, f"--replicas={count}")
    until(lambda: len(release.namespace.pods(WORKER)) == count, f"{count} workers are there")


def stalled_workplace(
    release: Release, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workplace, StallingCluster]:
    """Wire a worker of the release here, outside of the cluster, with a cluster that stalls."""
    named = f"{release.name}-bearloop"
    told = release.namespace.get("configmap", f"{named}-settings")["data"]
    rules = release.namespace.get("configmap", f"{named}-cluster")["data"]["cluster.json"]
    (folder / "cluster.json").write_text(rules)
    minio = f"http://{release.namespace.address(f'{named}-minio')}"
    for name, text in release.namespace.secret(f"{named}-store-api").items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("AWS_ENDPOINT_URL", minio)
    monkeypatch.setenv("AWS_DEFAULT_REGION", told["AWS_DEFAULT_REGION"])
    database = release.namespace.secret(f"{named}-database")["program-url"]
    postgres = release.namespace.address(f"{named}-postgresql")
    settings = Settings(
        database_url=database.replace(f"{named}-postgresql:5432", postgres),
        store_url=told["BEARLOOP_STORE_URL"],
        tracking_url=f"http://{release.namespace.address(f'{named}-mlflow')}",
        cluster="kubernetes",
        cluster_file=str(folder / "cluster.json"),
        work_folder=str(folder),
        lease=timedelta(seconds=10),
        call_deadline=timedelta(seconds=2),
    )
    stall = StallingCluster(build_cluster(settings))
    place = build_workplace(settings, stall)
    return place, stall
