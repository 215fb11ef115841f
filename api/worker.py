"""`python -m api.worker`: builds what the steps need, and makes steps until SIGTERM."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import FrameType
from uuid import uuid4

from sqlalchemy.exc import OperationalError

from api.bell import Bell
from api.cluster.processes import ProcessCluster, ProcessRules
from api.cluster.protocol import Cluster
from api.database import Database
from api.heartbeat import beat
from api.idempotency import forget_answers
from api.imports.ingest import ImportKind
from api.imports.plan import Sharing
from api.jobs.reconcile import (
    Workplace,
    claim_job,
    give_back,
    make_due,
    reconcile_job,
    remove_strays,
)
from api.promotion import reconcile as promotion
from api.promotion import strays
from api.runs.kind import RunKind
from api.settings import Settings, inherited_environment, limit_mlflow, settings
from api.tracking import TrackingServer
from bearloop.store import open_store

log = logging.getLogger("worker")


@dataclass(frozen=True)
class Worker:
    """What a worker does, over and over."""

    place: Workplace
    ending: Event
    """Set when it should end."""
    told: dict[str, str] = field(default_factory=dict)
    """What each step said last of a database that is away."""

    def work(self) -> None:
        """Make steps until the end is asked for; an error costs one step, and is logged."""
        next_sweep = time.monotonic()
        while not self.ending.is_set():
            self._safely(self._beat)
            self._safely(self._hear)
            jobs_due = self._safely(self._step_job)
            endpoints_due = self._safely(self._step_endpoint)
            if time.monotonic() >= next_sweep:
                self._safely(self._sweep_jobs)
                self._safely(self._sweep_deployments)
                self._safely(self._sweep_answers)
                next_sweep = time.monotonic() + self.place.settings.sweep.total_seconds()
            if not (jobs_due or endpoints_due or self.ending.is_set()):
                self.place.cluster.wait(self.place.settings.poll)

    def _beat(self) -> bool:
        # Also while nothing else answers: a restart would not bring the database back.
        beat(Path(self.place.settings.work_folder))
        return True

    def _hear(self) -> bool:
        make_due(self.place)
        return True

    def _step_job(self) -> bool:
        job = claim_job(self.place)
        if job is None:
            return False
        try:
            reconcile_job(self.place, job)
        except Exception as error:
            log.exception("job %s: the step failed; it waits and is tried again", job.id)
            give_back(self.place, job, f"the worker tries again: {error}")
        return True

    def _step_endpoint(self) -> bool:
        place = self.place
        return promotion.step(
            place.database, place.cluster, place.store, settings=place.settings, owner=place.owner
        )

    def _sweep_jobs(self) -> bool:
        for name in remove_strays(self.place):
            log.warning("removed %s, which had no right to be there", name)
        return True

    def _sweep_deployments(self) -> bool:
        for name in strays.remove_strays(self.place.database, self.place.cluster):
            log.warning("removed the servers of %s, which had no right to be there", name)
        return True

    def _sweep_answers(self) -> bool:
        forget_answers(self.place.database)
        return True

    def _safely(self, step: Callable[[], bool]) -> bool:
        try:
            done = step()
            self.told.pop(step.__name__, None)
            return done
        except OperationalError as error:
            # The same words over and over would bury the others.
            if self.told.get(step.__name__) != str(error.orig):
                log.warning("the database does not answer; the worker goes on: %s", error.orig)
            self.told[step.__name__] = str(error.orig)
        except Exception:
            log.exception("a step failed; the worker goes on")
        return False


def main() -> None:
    """Work until SIGTERM; the step in hand is ended first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    given = settings()
    limit_mlflow(given.mlflow_timeout)
    ending = Event()
    cluster = build_cluster(given)
    place = build_workplace(given, cluster)

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    log.info("%s works", place.owner)
    bell = Bell(place.database, cluster.wake)
    bell.begin()
    Worker(place, ending).work()
    bell.end()
    place.database.close()
    log.info("%s ended", place.owner)


def build_cluster(given: Settings) -> Cluster:
    """Build the cluster that the settings name."""
    if given.cluster == "processes":
        return _build_processes(given)
    if given.cluster == "kubernetes":
        return _build_kubernetes(given)
    raise ValueError(f"BEARLOOP_CLUSTER is {given.cluster!r}: expected `processes` or `kubernetes`")


def build_workplace(given: Settings, cluster: Cluster) -> Workplace:
    """Wire the steps on jobs."""
    database = Database(given.database_url, connections=given.database_connections)
    store = open_store(given.store_url)
    tracking = TrackingServer(given.tracking_url)
    if given.cluster == "kubernetes":
        tracking.open()  # who works for long should not let the first run wait
    # Processes of one machine would only share the same cores.
    most = 1 if given.cluster == "processes" else given.import_shards
    sharing = Sharing(most, given.sources_per_shard)
    kinds = (ImportKind(store, sharing), RunKind(database, tracking))
    return Workplace(
        owner=f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}",
        settings=given,
        database=database,
        store=store,
        cluster=cluster,
        kinds={kind.name: kind for kind in kinds},
    )


def _build_processes(given: Settings) -> ProcessCluster:
    rules = ProcessRules(
        inherited=inherited_environment(),
        at_once=given.processes_at_once,
        grace=given.stop_grace,
    )
    return ProcessCluster(Path(given.work_folder), rules)


def _build_kubernetes(given: Settings) -> Cluster:
    # The client takes 45 MB and 0.2 s, and one machine needs none of it.
    from api.cluster.kubernetes import KubernetesApi
    from api.cluster.kubernetes_cluster import KubernetesCluster
    from api.cluster.kubernetes_rules import read_rules

    if given.cluster_file is None:
        raise ValueError(
            "BEARLOOP_CLUSTER is `kubernetes` and BEARLOOP_CLUSTER_FILE is not set: "
            "name the file that says how pods look; the chart makes it"
        )
    rules = read_rules(Path(given.cluster_file))
    api = KubernetesApi(rules.namespace, timeout=given.call_deadline)
    cluster = KubernetesCluster(api, rules, call_deadline=given.call_deadline)
    cluster.begin()
    return cluster


if __name__ == "__main__":
    main()
