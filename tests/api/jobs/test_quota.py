"""The project's quota of GPUs: the rule, and many workers who ask at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from api.database import Database
from api.jobs.quota import Share, why_waiting
from api.jobs.states import JobState
from api.settings import Settings
from api.tables import Job, Project
from bearloop.store import FolderStore
from tests.api.jobs.runs import RunTally
from tests.api.runs.conftest import Zoo, start, zoo  # noqa: F401
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, step, workplace

SEVEN, NINE = Share(7, 1), Share(9, 1)


@pytest.mark.parametrize(
    ("quota", "using", "before", "says"),
    [
        (None, [SEVEN, NINE], [], None),
        (3, [SEVEN, NINE], [], None),
        (1, [], [], None),
        (2, [NINE, SEVEN], [], "2 of 2 GPUs in use by run 7 and run 9"),
        (1, [SEVEN], [], "1 of 1 GPU in use by run 7"),
        (2, [SEVEN], [Share(8, 2)], "run 8 waits for GPUs already"),
        (4, [], [SEVEN, Share(8, 2)], None),
        (3, [], [SEVEN, Share(8, 2)], "run 7 and run 8 wait for GPUs already"),
        (0, [], [], "asks for 1 GPU, and the project's quota is 0"),
    ],
)
def test_the_rule(
    quota: int | None, using: list[Share], *, before: list[Share], says: str | None
) -> None:
    found = why_waiting(Share(10, 1), quota=quota, using=using, before=before)
    assert found is None if says is None else says in str(found)


def test_a_run_without_gpus_waits_for_nobody() -> None:
    assert why_waiting(Share(10, 0), quota=0, using=[SEVEN], before=[NINE]) is None


def test_workers_who_ask_at_once_never_launch_over_the_quota(
    client: TestClient,
    zoo: Zoo,  # noqa: F811
    *,
    database: Database,
    store: FolderStore,
    project: Project,
    settings: Settings,
) -> None:
    with database.transaction() as session:
        session.execute(update(Project).where(Project.id == project.id).values(gpu_quota=3))
    for _ in range(8):
        start(client, gpus=1)
    desk, cluster, together = Desk(database, store, project), FakeCluster(), Barrier(6)

    def work(number: int) -> None:
        place = workplace(desk, cluster, RunTally(), settings=settings, owner=f"worker {number}")
        for _ in range(4):
            together.wait(30)
            step(place)

    with ThreadPoolExecutor(6) as workers:
        list(workers.map(work, range(6)))
    with database.transaction() as session:
        holding = select(func.count()).where(Job.state == JobState.launched, Job.gpus > 0)
        assert session.scalar(holding) == 3
    assert len(cluster.requests) == 3


def test_a_run_that_waits_for_the_quota_is_looked_at_now_and_then(
    client: TestClient,
    zoo: Zoo,  # noqa: F811
    *,
    database: Database,
    store: FolderStore,
    project: Project,
    settings: Settings,
) -> None:
    start(client, gpus=1)
    with database.transaction() as session:
        session.execute(update(Project).where(Project.id == project.id).values(gpu_quota=0))
    desk = Desk(database, store, project)
    place = workplace(desk, FakeCluster(), RunTally(), settings=settings)
    pauses = []
    for _ in range(3):
        with database.transaction() as session:
            session.execute(update(Job).values(due_at=func.now() - timedelta(hours=2)))
            before = session.scalars(select(func.clock_timestamp())).one()
        assert step(place)
        with database.transaction() as session:
            pauses.append(session.scalars(select(Job.due_at)).one() - before)
    assert [pause > 9 * settings.poll for pause in pauses] == [False, True, True]
