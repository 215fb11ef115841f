"""The worker itself, with its database, and pods that come and go on a real cluster."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_cluster import KubernetesCluster
from api.database import Database
from api.jobs.mailbox import Mailbox
from api.jobs.reconcile import remove_strays
from api.jobs.states import JobState
from api.settings import Settings
from api.tables import Project
from api.worker import Worker
from bearloop.contract.jobs import Progress
from bearloop.store import FolderStore
from tests.cluster.jobs import (
    LISTENS,
    SLEEPS,
    asked,
    gone,
    opened_cluster,
    opened_namespace,
    pod_of,
    release_rules,
    runs,
    seen,
)
from tests.cluster.rig import Namespace, until
from tests.fixtures.jobs import Desk, TallyKind, workplace

NAME = "bearloop-test-job-life"


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with opened_namespace(NAME) as opened:
        yield opened


@pytest.fixture
def program() -> str:
    return LISTENS


@pytest.fixture
def cluster(
    namespace: Namespace, program: str, request: pytest.FixtureRequest
) -> Iterator[KubernetesCluster]:
    api = KubernetesApi(NAME, timeout=timedelta(seconds=20))
    rules = release_rules(namespace, request.node.name)
    opened = opened_cluster(api, rules, ("python", "-u", "-c", program))
    yield opened
    opened.end()
    api.close()


@pytest.fixture
def desk(database: Database, store: FolderStore, project: Project) -> Desk:
    return Desk(database, store, project)


@pytest.fixture
def worker(desk: Desk, cluster: KubernetesCluster, settings: Settings) -> Iterator[Worker]:
    """A worker at work; its pods find no store, so that the test answers for them."""
    ending = threading.Event()
    made = Worker(workplace(desk, cluster, TallyKind(), settings=settings), ending)
    thread = threading.Thread(target=made.work)
    thread.start()
    yield made
    ending.set()
    thread.join(timeout=60)


def kept_log(desk: Desk, job: UUID) -> str:
    return Mailbox(desk.mail, str(job)).log(desk.row(job).launch) or ""


def await_kept(desk: Desk, job: UUID, *, attempt: str) -> None:
    """Make progress, as the attempt would, until what it printed is in the store."""

    def kept() -> bool:
        desk.report(job, Progress(stage="fit", done=1, at=datetime.now(UTC)), attempt=attempt)
        return f"hello from {attempt}" in kept_log(desk, job)

    until(kept, "its log is kept")


def test_an_evicted_job_goes_on_and_every_attempt_leaves_its_log(
    desk: Desk, worker: Worker, namespace: Namespace
) -> None:
    job = desk.ask()
    until(lambda: desk.row(job).state == JobState.running, "it runs")
    first = str(desk.row(job).attempt)
    await_kept(desk, job, attempt=first)
    namespace.evict(pod_of(namespace, desk.name(job)))
    until(lambda: desk.row(job).attempt not in {None, first}, "another pod runs")
    second = str(desk.row(job).attempt)
    await_kept(desk, job, attempt=second)
    assert desk.answer(job, attempt=second)
    until(lambda: desk.row(job).finished_at is not None, "it is done")
    row = desk.row(job)
    assert (row.state, row.launch, row.crashes) == (JobState.done, 1, 0)
    assert desk.ingested(job) == 1
    assert f"hello from {first}\n" in kept_log(desk, job)
    assert f"hello from {second}\n" in kept_log(desk, job)
    assert worker.place.cluster.jobs() == []
    assert namespace.get("pods", "-l", f"bearloop.io/job={desk.name(job)}")["items"] == []


@pytest.mark.parametrize("program", [SLEEPS])
def test_a_pod_that_is_killed_is_a_crash_and_the_next_launch_follows(
    desk: Desk, worker: Worker, namespace: Namespace
) -> None:
    job = desk.ask()
    until(lambda: desk.row(job).state == JobState.running, "it runs")
    namespace.kill(pod_of(namespace, desk.name(job)))
    until(lambda: desk.row(job).state == JobState.running and desk.row(job).launch == 2, "again")
    assert desk.row(job).crashes == 1
    desk.cancel(job)
    until(lambda: desk.row(job).finished_at is not None, "it is cancelled")


def test_a_cancelled_job_is_gone_and_a_late_launch_of_it_is_taken_away(
    desk: Desk, worker: Worker, cluster: KubernetesCluster
) -> None:
    job = desk.ask()
    until(lambda: desk.row(job).state == JobState.running, "it runs")
    name = desk.name(job)
    desk.cancel(job)
    until(lambda: desk.row(job).finished_at is not None, "it is cancelled")
    assert desk.row(job).state == JobState.cancelled
    assert cluster.job(name) is None
    cluster.launch(asked(name, ""))
    seen(cluster, name, runs)
    assert name in remove_strays(worker.place)
    gone(cluster, name)
    assert desk.row(job).state == JobState.cancelled
