"""Who is looked at first, and how often who waits."""

from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from api.database import Database
from api.jobs.reconcile import Workplace, claim_job, make_due, reconcile_job
from api.jobs.states import JobState
from api.settings import Settings
from api.tables import Project
from bearloop.contract.jobs import result_key
from bearloop.store import FolderStore, Store
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, TallyKind, step, workplace


class CountingStore(FolderStore):
    """A folder that writes down what was read of it."""

    def __init__(self, folder: Path, read: list[str]) -> None:
        super().__init__(folder)
        self.read = read

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)

    def under(self, prefix: str) -> Store:
        return CountingStore(self.folder / prefix, self.read)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "counted", [])


@pytest.fixture
def desk(database: Database, store: CountingStore, project: Project) -> Desk:
    return Desk(database, store, project)


@pytest.fixture
def place(desk: Desk, cluster: FakeCluster, settings: Settings) -> Workplace:
    return workplace(desk, cluster, TallyKind(), settings=settings)


@pytest.fixture
def line(place: Workplace, desk: Desk, cluster: FakeCluster) -> list[UUID]:
    """Three jobs that wait on the cluster, all of them due, the first one longest."""
    jobs = [desk.ask() for _ in range(3)]
    for _ in jobs:
        step(place)
    for minutes, job in enumerate(jobs):
        cluster.queue(desk.name(job), "waits for 1 GPU")
        past = func.now() - timedelta(minutes=len(jobs) - minutes)
        desk.change(job, due_at=past)
    cluster.changed()
    return jobs


def claimed(place: Workplace) -> UUID:
    job = claim_job(place)
    assert job is not None
    return job.id


def clock(desk: Desk) -> datetime:
    """Read the database's clock, by which jobs are due."""
    with desk.database.transaction() as session:
        return session.scalars(select(func.clock_timestamp())).one()


def test_a_job_that_was_heard_of_goes_before_those_that_wait_longer(
    place: Workplace, desk: Desk, cluster: FakeCluster, line: list[UUID]
) -> None:
    cluster.begin(desk.name(line[2]))
    make_due(place)
    assert [claimed(place) for _ in line] == [line[2], line[0], line[1]]


def test_a_job_that_is_cancelled_goes_before_those_that_wait_longer(
    place: Workplace, desk: Desk, line: list[UUID]
) -> None:
    desk.cancel(line[1])
    assert claimed(place) == line[1]


def test_what_is_heard_while_a_worker_looks_is_looked_at_again(
    place: Workplace, desk: Desk, cluster: FakeCluster, line: list[UUID]
) -> None:
    job = claim_job(place)
    assert job is not None
    cluster.hear(desk.name(job.id))
    make_due(place)
    reconcile_job(place, job)
    assert claimed(place) == job.id


def test_a_job_that_waits_on_is_looked_at_less_often_until_its_reason_changes(
    place: Workplace, desk: Desk, cluster: FakeCluster, line: list[UUID]
) -> None:
    job, poll = line[0], place.settings.poll
    for reason, soon in (("waits", True), ("waits", False), ("waits", False), ("else", True)):
        cluster.queue(desk.name(job), reason)
        cluster.changed()
        desk.change(job, due_at=func.now() - timedelta(hours=2))
        before = clock(desk)
        step(place)
        due = desk.row(job).due_at
        if soon:
            assert due < clock(desk) + 3 * poll
        else:
            assert due > before + 9 * poll


def test_the_store_is_asked_of_nobody_who_cannot_have_answered(
    place: Workplace, desk: Desk, cluster: FakeCluster, store: CountingStore, *, line: list[UUID]
) -> None:
    desk.ask()
    for _ in range(4):
        step(place)
    assert store.read == []
    attempt = cluster.begin(desk.name(line[0]))
    make_due(place)
    step(place)
    desk.answer(line[0], attempt=attempt)
    # Its pod is replaced, and waits: the one before may have left an answer.
    cluster.queue(desk.name(line[0]), "waits for 1 GPU")
    make_due(place)
    store.read.clear()
    step(place)
    assert store.read[0] == result_key(str(line[0]))
    assert desk.row(line[0]).state == JobState.done
