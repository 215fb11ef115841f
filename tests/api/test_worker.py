"""The worker as a process with the real importer, killed wherever it hurts."""

import os
import random
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from api.cluster.processes import ProcessCluster, ProcessRules
from api.cluster.protocol import DeploymentRequest
from api.database import Database
from api.heartbeat import NAME
from api.settings import Settings, inherited_environment
from api.tables import IdempotencyKey, Import, ImportSource, Job, LabelEvent
from tests.fixtures.cluster import until
from tests.fixtures.pictures import jpeg
from tests.fixtures.workers import WorkerProcess, workers

IMPORTS = "/v1/projects/zoo/datasets/bears/imports"
PICTURES = 6


@pytest.fixture
def machine(settings: Settings, tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    with workers(settings, tmp_path, count=2) as made:
        yield made


@pytest.fixture
def worker(machine: list[WorkerProcess]) -> WorkerProcess:
    return machine[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of two classes."""
    for number in range(PICTURES):
        path = tmp_path / "bears" / ("black", "teddy")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return tmp_path / "bears"


@pytest.fixture
def zoo(client: TestClient) -> TestClient:
    client.post("/v1/projects/zoo/datasets", json={"name": "bears"})
    return client


def ask(client: TestClient, folder: Path) -> str:
    """Ask for an import; returns its address."""
    answer = client.post(IMPORTS, json={"kind": "folder", "uri": folder.as_uri()})
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def state(client: TestClient, address: str) -> str:
    return str(client.get(address).json()["state"])


def await_done(client: TestClient, address: str) -> None:
    until(lambda: state(client, address) in ("done", "failed", "cancelled"))
    seen = client.get(address).json()
    assert seen["state"] == "done", seen


def await_shim(settings: Settings) -> int:
    """Wait until a job's shim lives; returns its number."""
    found: list[int] = []

    def there() -> bool:
        paths = Path(settings.work_folder, "jobs").glob("*/started.json")
        found.extend(int(path.read_text().split('"pid": ')[1].split(",")[0]) for path in paths)
        return bool(found)

    until(there)
    return found[0]


def assert_ingested_once(database: Database, imports: int = 1) -> None:
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Import)) == imports
        lines = session.scalar(select(func.count()).select_from(ImportSource))
        claims = session.scalar(select(func.count()).select_from(LabelEvent))
    assert lines == imports * PICTURES
    assert claims == imports * PICTURES


def test_an_import_asked_for_is_done(
    worker: WorkerProcess, zoo: TestClient, folder: Path, database: Database
) -> None:
    worker.start()
    address = ask(zoo, folder)
    await_done(zoo, address)
    assert zoo.get(address).json()["stored"] == PICTURES
    assert_ingested_once(database)
    until(lambda: zoo.get(address).json()["finished_at"] is not None)
    assert worker.end() == 0


def test_a_worker_killed_after_the_launch_leaves_a_job_that_is_adopted(
    worker: WorkerProcess, settings: Settings, zoo: TestClient, folder: Path, database: Database
) -> None:
    worker.start()
    address = ask(zoo, folder)
    await_shim(settings)
    worker.kill()
    worker.start()
    await_done(zoo, address)
    assert_ingested_once(database)
    with database.transaction() as session:
        assert session.scalars(select(Job.launch)).all() == [1]


@pytest.mark.parametrize("victim", ["shim", "job"])
def test_a_job_killed_in_the_middle_is_launched_anew_and_ingested_once(
    worker: WorkerProcess,
    settings: Settings,
    zoo: TestClient,
    folder: Path,
    database: Database,
    victim: str,
) -> None:
    worker.start()
    address = ask(zoo, folder)
    shim = await_shim(settings)
    until(lambda: bool(psutil.Process(shim).children()))
    (job,) = psutil.Process(shim).children()
    os.kill(shim if victim == "shim" else job.pid, signal.SIGKILL)
    await_done(zoo, address)
    assert_ingested_once(database)
    with database.transaction() as session:
        assert session.execute(select(Job.launch, Job.crashes)).all() == [(2, 1)]


def test_workers_killed_at_any_time_lose_and_double_nothing(
    machine: list[WorkerProcess], zoo: TestClient, folder: Path, database: Database
) -> None:
    dice = random.Random(7)
    for worker in machine:
        worker.start()
    addresses = [ask(zoo, folder) for _ in range(3)]
    for _ in range(4):
        victim = dice.choice(machine)
        deadline = monotonic() + dice.uniform(0.8, 2.5)
        until(lambda until_then=deadline: monotonic() > until_then)
        victim.kill()
        victim.start()
    for address in addresses:
        await_done(zoo, address)
    assert_ingested_once(database, imports=3)


def test_a_cancelled_import_is_not_ingested(
    worker: WorkerProcess, zoo: TestClient, folder: Path, database: Database
) -> None:
    address = ask(zoo, folder)
    assert zoo.post(f"{address}/cancel").status_code == 202
    worker.start()
    until(lambda: state(zoo, address) == "cancelled")
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(ImportSource)) == 0


def test_servers_that_no_endpoint_asks_for_are_ended(
    worker: WorkerProcess, settings: Settings
) -> None:
    programs = {"inference": (sys.executable, "-c", "")}
    rules = ProcessRules(inherited=inherited_environment(), programs=programs)
    machine = ProcessCluster(Path(settings.work_folder), rules)
    machine.deploy(DeploymentRequest(name="bears-7", digest="gone", environment={}))
    worker.start()
    until(lambda: machine.deployments() == [])


def test_answers_of_yesterday_are_forgotten(
    zoo: TestClient, database: Database, worker: WorkerProcess
) -> None:
    zoo.post("/v1/tokens", json={"name": "laptop"}, headers={"Idempotency-Key": "yesterday"})
    with database.transaction() as session:
        session.execute(update(IdempotencyKey).values(created_at=func.now() - timedelta(days=2)))
    worker.start()

    def forgotten() -> bool:
        with database.transaction() as session:
            return session.scalar(select(IdempotencyKey.key)) is None

    until(forgotten)


def test_a_worker_that_never_polls_is_woken_by_who_asks(
    worker: WorkerProcess, zoo: TestClient, folder: Path
) -> None:
    worker.poll = "PT24H"
    worker.start()
    until(lambda: "the API's bell is heard" in worker.log.read_text())
    first = ask(zoo, folder)
    await_done(zoo, first)
    second = ask(zoo, folder)
    await_done(zoo, second)


def test_a_worker_without_a_database_lives_and_says_so_once(
    settings: Settings, tmp_path: Path
) -> None:
    nowhere = "postgresql+psycopg://bearloop:secret@127.0.0.1:9/bearloop"
    alone = WorkerProcess(settings.model_copy(update={"database_url": nowhere}), tmp_path / "log")
    alone.start()
    heart = Path(settings.work_folder) / NAME
    until(heart.exists)
    first = heart.stat().st_mtime
    until(lambda: heart.stat().st_mtime > first + 1)
    assert alone.end() == 0
    said = (tmp_path / "log").read_text()
    assert 1 <= said.count("the database does not answer") <= 5
    assert "Traceback" not in said
    assert "secret" not in said


def test_an_outage_of_the_store_is_told_and_outlived(
    worker: WorkerProcess, settings: Settings, zoo: TestClient, folder: Path
) -> None:
    store = Path(settings.store_url.removeprefix("file://"))
    store.mkdir(parents=True, exist_ok=True)
    aside = store.with_name("aside")
    store.rename(aside)
    store.write_text("no folder")
    address = ask(zoo, folder)
    worker.start()
    until(lambda: "the worker tries again" in str(zoo.get(address).json()["reason"]))
    store.unlink()
    aside.rename(store)
    await_done(zoo, address)
