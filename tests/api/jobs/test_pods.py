"""A launch whose pods come and go, and a worker that hears of it."""

from datetime import UTC, datetime, timedelta

import pytest

from api.database import Database
from api.jobs.mailbox import Mailbox
from api.jobs.reconcile import Workplace, make_due
from api.jobs.states import JobState
from api.settings import Settings
from api.tables import Project
from bearloop.contract.jobs import Progress
from bearloop.store import FolderStore
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, TallyKind, step, workplace


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def desk(database: Database, store: FolderStore, project: Project) -> Desk:
    return Desk(database, store, project)


@pytest.fixture
def place(desk: Desk, cluster: FakeCluster, settings: Settings) -> Workplace:
    far = settings.model_copy(update={"poll": timedelta(hours=1)})
    return workplace(desk, cluster, TallyKind(), settings=far)


def hears(place: Workplace) -> bool:
    """Make the worker's next round: it listens, then steps."""
    make_due(place)
    return step(place)


def progress(done: int) -> Progress:
    return Progress(stage="fit", done=done, at=datetime.now(UTC))


class TestAPodThatIsReplaced:
    def test_is_another_attempt_of_the_same_launch_and_shows_its_own_progress(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        first = cluster.begin(desk.name(job))
        desk.report(job, progress(5), attempt=first)
        assert hears(place)
        second = cluster.replace_pod(desk.name(job))
        assert hears(place)
        row = desk.row(job)
        assert (row.attempt, row.launch, row.crashes) == (second, 1, 0)
        assert row.progress is not None
        assert row.progress["done"] == 5
        desk.report(job, progress(6), attempt=second)
        desk.make_due()
        step(place)
        shown = desk.row(job).progress
        assert shown is not None
        assert shown["done"] == 6

    def test_leaves_its_log_behind(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        name = desk.name(job)
        first = cluster.begin(name)
        hears(place)
        cluster.printed[name] = "step 1\n"
        cluster.drain(name)
        hears(place)
        assert desk.row(job).reason == "it was evicted; it leaves"
        cluster.printed[name] = "step 1\ncheckpoint\n"
        desk.make_due()
        step(place)
        second = cluster.replace_pod(name)
        cluster.printed[name] = "step 2\n"
        desk.report(job, progress(2), attempt=second)
        hears(place)
        kept = Mailbox(desk.mail, str(job)).log(1)
        assert kept is not None
        assert f"---- {first}\nstep 1\ncheckpoint\n" in kept
        assert f"---- {second}\nstep 2\n" in kept

    def test_may_be_the_end_of_the_launch_and_is_not_counted(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        cluster.begin(desk.name(job))
        hears(place)
        cluster.disrupt(desk.name(job))
        hears(place)
        row = desk.row(job)
        assert (row.state, row.crashes) == (JobState.queued, 0)
        assert row.reason == "it was evicted; it goes on from its checkpoint"


class TestTheWorkerThatHears:
    def test_looks_at_once_at_the_job_that_changed_and_at_no_other(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        jobs = [desk.ask() for _ in range(3)]
        for job in jobs:
            step(place)
            cluster.begin(desk.name(job))
        while hears(place):
            pass
        cluster.crash(desk.name(jobs[1]))
        assert hears(place)
        assert not hears(place)
        states = [desk.row(job).state for job in jobs]
        assert states == [JobState.running, JobState.queued, JobState.running]

    def test_leaves_a_job_alone_that_waits_after_a_crash(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        cluster.begin(desk.name(job))
        hears(place)
        cluster.crash(desk.name(job))
        hears(place)
        cluster.queue(desk.name(job), "changes again")
        assert not hears(place)

    def test_does_not_mind_a_name_that_is_no_jobs(
        self, place: Workplace, cluster: FakeCluster
    ) -> None:
        cluster.hear("bears-3")
        assert not hears(place)
