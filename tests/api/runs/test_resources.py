"""What a run may ask of the cluster, and what reaches it."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.app import create_app
from api.database import Database
from api.jobs.reconcile import Workplace
from api.runs.named_recipes import FINE_TUNE
from api.settings import Settings
from api.tables import Job, Project
from bearloop.contract.runs import RunSpec
from bearloop.store import FolderStore
from tests.api.jobs.runs import RunTally
from tests.api.runs.conftest import RUNS, Zoo, start
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, step, workplace


def spec_of(database: Database) -> RunSpec:
    with database.transaction() as session:
        return RunSpec.model_validate(session.scalars(select(Job.spec)).one())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, ("auto", 0, 1)),
        ({"device": "cpu"}, ("cpu", 0, 1)),
        ({"device": "cuda"}, ("cuda", 1, 1)),
        ({"gpus": 2}, ("cuda", 2, 1)),
        ({"gpus": 2, "device": "auto"}, ("auto", 2, 1)),
        ({"gpus": 1, "nodes": 3}, ("cuda", 1, 3)),
        ({"nodes": 2}, ("auto", 0, 2)),
    ],
)
def test_the_spec_says_all_that_was_asked_for(
    client: TestClient,
    zoo: Zoo,
    *,
    database: Database,
    asked: dict[str, object],
    told: tuple[str, int, int],
) -> None:
    run = start(client, **asked)
    spec = spec_of(database)
    assert (spec.device, spec.gpus, spec.nodes) == told
    assert (run["gpus"], run["nodes"]) == told[1:]


def test_a_run_saves_as_often_as_it_was_asked_to(
    client: TestClient, zoo: Zoo, *, database: Database
) -> None:
    start(client, checkpoint_every="PT10M")
    assert spec_of(database).checkpoint_every == timedelta(minutes=10)
    wrong = client.post(RUNS, json={"dataset": "bears", "checkpoint_every": "soon"}).json()
    assert wrong["errors"][0]["way_out"] == "give a duration such as PT10M"


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"device": "cpu", "gpus": 2}, "contradicting_resources", "gpus"),
        ({"device": "cuda", "gpus": 0}, "contradicting_resources", "gpus"),
        ({"nodes": 32, "gpus": 16}, "contradicting_resources", "batch_size"),
        ({"cpu": 4}, "contradicting_resources", "cpu"),
        ({"memory": "8Gi"}, "contradicting_resources", "memory"),
        ({"deadline": 3600}, "contradicting_resources", "deadline"),
        ({"gpus": 17}, "invalid", "gpus"),
        ({"nodes": 0}, "invalid", "nodes"),
        ({"memory": "lots"}, "invalid", "memory"),
        ({"deadline": 1}, "invalid", "deadline"),
        ({"device": "tpu"}, "invalid", "device"),
        ({"checkpoint_every": "PT0S"}, "invalid", "checkpoint_every"),
        ({"checkpoint_every": "P2D"}, "invalid", "checkpoint_every"),
        ({"checkpoint_every": "soon"}, "invalid", "checkpoint_every"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(
    client: TestClient, zoo: Zoo, *, asked: dict[str, object], code: str, field: str
) -> None:
    answer = client.post(RUNS, json={"dataset": "bears", **asked})
    problem = answer.json()
    assert answer.status_code == 422
    assert code in (problem["code"], "invalid")
    assert field in problem["field"]
    assert problem["way_out"]


def test_a_stage_s_own_batch_must_be_shared_by_all_processes_too(
    client: TestClient, zoo: Zoo
) -> None:
    cache, first, last, evaluate = FINE_TUNE.stages
    small = last.model_copy(update={"batch_size": 6})
    recipe = FINE_TUNE.model_copy(update={"stages": (cache, first, small, evaluate)})
    asked = {"dataset": "bears", "recipe": recipe.model_dump(mode="json")}
    answer = client.post(RUNS, json={**asked, "gpus": 2, "nodes": 2})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "contradicting_resources")
    assert (problem["field"], problem["value"]) == ("recipe.stages.2.batch_size", 6)
    assert "batches of 8 or more" in problem["way_out"]
    assert client.post(RUNS, json={**asked, "gpus": 3}).status_code == 202


def test_more_than_the_quota_is_refused_unless_kueue_decides(
    client: TestClient, zoo: Zoo, *, database: Database, project: Project
) -> None:
    with database.transaction() as session:
        session.execute(update(Project).where(Project.id == project.id).values(gpu_quota=2))
    answer = client.post(RUNS, json={"dataset": "bears", "gpus": 2, "nodes": 2})
    assert (answer.status_code, answer.json()["code"]) == (422, "over_quota")
    assert (answer.json()["field"], answer.json()["value"]) == ("gpus", 4)
    start(client, gpus=2)
    with database.transaction() as session:
        session.execute(update(Project).where(Project.id == project.id).values(queue="gpus"))
    start(client, gpus=2, nodes=2)


def test_a_project_gets_queue_and_quota_from_who_runs_the_platform(
    callers: Callable[[str], TestClient],
) -> None:
    path, platform = "/v1/projects/zoo", callers("platform")
    assert callers("admin").patch(path, json={"gpu_quota": 8}).status_code == 403
    changed = platform.patch(path, json={"gpu_quota": 8, "queue": "gpus"}).json()
    assert (changed["gpu_quota"], changed["queue"]) == (8, "gpus")
    changed = platform.patch(path, json={"queue": None}).json()
    assert (changed["gpu_quota"], changed["queue"]) == (8, None)
    (shown,) = callers("viewer").get("/v1/projects").json()["items"]
    assert shown["gpu_quota"] == 8
    for wrong in ({"queue": "No Such"}, {"gpu_quota": -1}, {"quota": 3}):
        assert platform.patch(path, json=wrong).status_code == 422
    missing = platform.patch("/v1/projects/none", json={})
    assert (missing.status_code, missing.json()["code"]) == (404, "project_not_found")


def test_the_cluster_is_asked_for_what_the_run_was(
    settings: Settings,
    database: Database,
    *,
    store: FolderStore,
    project: Project,
    zoo: Zoo,
    client: TestClient,
) -> None:
    kubernetes = settings.model_copy(update={"cluster": "kubernetes"})
    app = create_app(kubernetes, database=database, store=store)
    desk, cluster = Desk(database, store, project), FakeCluster()
    with database.transaction() as session:
        session.execute(update(Project).where(Project.id == project.id).values(queue="gpus"))
    asked = {"gpus": 2, "nodes": 2, "cpu": 6.5, "memory": "24Gi", "deadline": 7200}
    with TestClient(app, headers=dict(client.headers)) as there:
        start(there, **asked)
    step(workplace(desk, cluster, RunTally(), settings=settings))
    (request,) = cluster.requests.values()
    assert (request.gpus, request.nodes, request.shards) == (2, 2, 1)
    assert (request.cpu, request.memory) == (6.5, "24Gi")
    assert request.deadline is not None
    assert request.deadline.total_seconds() == 7200
    assert (request.queue, request.project, request.title) == ("gpus", "zoo", "run 1")


class TestQuota:
    @pytest.fixture
    def desk(self, database: Database, store: FolderStore, project: Project) -> Desk:
        with database.transaction() as session:
            session.execute(update(Project).where(Project.id == project.id).values(gpu_quota=2))
        return Desk(database, store, project)

    @pytest.fixture
    def cluster(self) -> FakeCluster:
        return FakeCluster()

    @pytest.fixture
    def place(self, desk: Desk, cluster: FakeCluster, settings: Settings) -> Workplace:
        return workplace(desk, cluster, RunTally(), settings=settings)

    def test_a_third_run_waits_says_why_and_goes_when_one_ends(
        self, client: TestClient, zoo: Zoo, *, desk: Desk, cluster: FakeCluster, place: Workplace
    ) -> None:
        for _ in range(4):
            start(client, gpus=1)
        look(desk, place)
        shown = {run: client.get(f"{RUNS}/{run}").json() for run in (1, 2, 3, 4)}
        assert [shown[run]["state"] for run in shown] == ["launched", "launched"] + ["queued"] * 2
        assert shown[3]["reason"] == (
            "waits for the project's quota: 2 of 2 GPUs in use by run 1 and run 2"
        )
        first = next(iter(cluster.requests))
        job = UUID(first.removeprefix("run-")[:-2])
        desk.answer(job)
        cluster.finish(first)
        look(desk, place)
        states = [client.get(f"{RUNS}/{run}").json()["state"] for run in (1, 2, 3, 4)]
        assert states == ["done", "launched", "launched", "queued"]

    def test_a_cancelled_run_holds_nobody_up_and_a_cpu_run_waits_for_none(
        self, client: TestClient, zoo: Zoo, *, desk: Desk, place: Workplace
    ) -> None:
        start(client, gpus=1)
        start(client, gpus=2)
        start(client, gpus=1)
        start(client)
        look(desk, place)
        shown = [client.get(f"{RUNS}/{run}").json() for run in (1, 2, 3, 4)]
        assert [run["state"] for run in shown] == ["launched", "queued", "queued", "launched"]
        assert shown[2]["reason"] == "waits for the project's quota: run 2 waits for GPUs already"
        client.post(f"{RUNS}/2/cancel")
        look(desk, place)
        states = [client.get(f"{RUNS}/{run}").json()["state"] for run in (1, 2, 3)]
        assert states == ["launched", "cancelled", "launched"]


def look(desk: Desk, place: Workplace) -> None:
    """Make steps until each job was looked at a few times."""
    for _ in range(4):
        desk.make_due()
        for _ in range(4):
            step(place)
