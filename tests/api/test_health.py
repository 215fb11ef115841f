"""Alive, ready, and counted."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
import pytest
from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from fastapi.testclient import TestClient

from api.app import create_app
from api.database import Database
from api.health import Look
from api.heartbeat import NAME, beat, problem
from api.settings import Settings
from bearloop.embedded_postgres import OWNER, PROGRAM, EmbeddedPostgres
from bearloop.store import FolderStore, StoreError, open_store
from migrations.upgrade import upgrade
from tests.fixtures.cluster import until
from tests.fixtures.ports import free_port
from tests.fixtures.s3_server import s3_server, s3_url  # noqa: F401

Callers = Callable[[str], TestClient]


def test_it_is_ready_when_database_and_store_answer(client: TestClient) -> None:
    until(lambda: client.get("/readyz").status_code == 200)
    answer = client.get("/readyz")
    # No MLflow runs beside this test: that is told, and keeps nobody out.
    assert answer.json() == {"status": "ok", "without": {"mlflow": "does not answer"}}


def test_readiness_names_what_is_missing(settings: Settings, store: FolderStore) -> None:
    gone = Database("postgresql+psycopg://bearloop@127.0.0.1:9/bearloop?connect_timeout=1")
    with TestClient(create_app(settings, database=gone, store=store)) as nobody:
        answer = nobody.get("/readyz")
        assert nobody.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database"]
    assert answer.json()["because"] == {"database": "does not answer"}


def test_a_database_that_is_not_there_yet_is_told_and_then_used(
    settings: Settings, store: FolderStore, postgres: EmbeddedPostgres
) -> None:
    late = Database(postgres.url("late", role=PROGRAM))

    def why(nobody: TestClient) -> str:
        until(lambda: because(nobody) != "does not answer")
        return because(nobody)

    def because(nobody: TestClient) -> str:
        return str(nobody.get("/readyz").json()["because"]["database"])

    with TestClient(create_app(settings, database=late, store=store)) as nobody:
        assert why(nobody) == "has no database or no role of this name"
        postgres.create_database("late")
        assert why(nobody).startswith("has no schema yet")
        upgrade(postgres.url("late", role=OWNER), program_role=PROGRAM)
        until(lambda: nobody.get("/readyz").status_code == 200)
    postgres.drop_database("late")


def test_a_missing_bucket_is_no_missing_object(
    settings: Settings,
    database: Database,
    s3_url: str,  # noqa: F811
) -> None:
    with TestClient(create_app(settings, database=database, store=open_store(s3_url))) as nobody:
        until(lambda: nobody.get("/readyz").status_code == 200)
    nowhere = open_store("s3://nowhere/project")
    with TestClient(create_app(settings, database=database, store=nowhere)) as nobody:
        said = {"store": "has no bucket of this name"}
        until(lambda: nobody.get("/readyz").json()["because"] == said)


def test_a_store_that_does_not_answer_is_said_to_be_away(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = open_store("s3://bears")
    with TestClient(create_app(settings, database=database, store=away)) as nobody:
        answer = nobody.get("/readyz").json()
    assert answer["missing"] == ["store"]
    assert "127.0.0.1" not in str(answer)


def test_the_api_lives_and_says_why_when_every_thread_waits(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, ThreadPoolExecutor(1) as aside:
        # The kernel accepts, and nobody reads.
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        silent = open_store("s3://bears")
        with (
            TestClient(create_app(settings, database=database, store=silent)) as nobody,
            every_thread_taken(nobody),
        ):
            assert aside.submit(nobody.get, "/healthz").result(60).status_code == 200
            answer = aside.submit(nobody.get, "/readyz").result(60)
        # So that the store is asked anew soon: with boto's own patience it is one look for minutes.
        assert isinstance(aside.submit(silent.hasty().get, "key").exception(60), StoreError)
    assert answer.status_code == 503
    assert answer.json()["because"] == {"store": "does not answer"}


@contextmanager
def every_thread_taken(client: TestClient) -> Iterator[None]:
    """Leave no thread for routes that need one, as calls without an answer do."""
    assert client.portal is not None
    limiter = client.portal.call(_limiter)
    takers = [object() for _ in range(int(limiter.available_tokens))]
    for taker in takers:
        client.portal.call(limiter.acquire_on_behalf_of_nowait, taker)
    try:
        yield
    finally:
        for taker in takers:
            client.portal.call(limiter.release_on_behalf_of, taker)


async def _limiter() -> CapacityLimiter:
    return current_default_thread_limiter()


def test_who_asks_while_a_look_goes_on_shares_it_and_does_not_wait_long() -> None:
    asked: list[str | None] = []
    goes_on = Event()

    def question() -> str | None:
        asked.append("has no bucket of this name" if len(asked) == 0 else None)
        goes_on.wait(60)
        return asked[-1]

    async def story() -> list[str | None]:
        look = Look(question, patience=0.05)
        told = list(await asyncio.gather(*(look.problem() for _ in range(5))))
        assert len(asked) == 1
        goes_on.set()
        told += [await patient(look), await patient(look)]
        return told

    async def patient(look: Look) -> str | None:
        before = len(asked)
        while (problem := await look.problem()) == "does not answer" or len(asked) < before:
            await asyncio.sleep(0)
        return problem

    said = asyncio.run(story())
    assert said == ["does not answer"] * 5 + ["has no bucket of this name", None]


@dataclass
class Served:
    """`python -m api` with nothing else there."""

    process: subprocess.Popen[bytes]
    url: str

    def answers(self) -> bool:
        """Tell whether it lives."""
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Served]:
    port = free_port()
    told = {
        "BEARLOOP_DATABASE_URL": "postgresql+psycopg://bearloop:secret@127.0.0.1:9/bearloop",
        "BEARLOOP_STORE_URL": "s3://bears",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "BEARLOOP_TRACKING_URL": "http://127.0.0.1:9",
        "BEARLOOP_WORK_FOLDER": str(tmp_path),
    }
    command = [sys.executable, "-m", "api", "--port", str(port), "--grace", "5", "--linger", "60"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **told}, stdout=log, stderr=subprocess.STDOUT
        )
    yield Served(process, f"http://127.0.0.1:{port}")
    process.kill()
    process.wait()


def test_the_api_lives_without_anything_and_leaves_when_asked(
    alone: Served, tmp_path: Path
) -> None:
    until(alone.answers)
    answer = httpx.get(f"{alone.url}/readyz", timeout=60)
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database", "store"]
    assert "secret" not in answer.text + (tmp_path / "log").read_text()
    with httpx.Client(base_url=alone.url, timeout=60) as kept:
        assert "connection" not in kept.get("/healthz").headers
        alone.process.send_signal(signal.SIGTERM)
        until(lambda: kept.get("/readyz").json() == {"status": "leaving"})
    # Whoever has not heard of it yet is answered, and told to open no second request on this one.
    late = httpx.get(f"{alone.url}/healthz", timeout=60)
    assert (late.status_code, late.headers["connection"]) == (200, "close")
    alone.process.send_signal(signal.SIGTERM)
    assert alone.process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_heartbeat_is_looked_at_by_a_probe(tmp_path: Path) -> None:
    file = tmp_path / "work" / NAME

    def probe(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "api.heartbeat", str(file), *options]
        return subprocess.run(command, capture_output=True, text=True)

    none = probe()
    assert none.returncode == 1
    assert "No such file" in none.stderr
    beat(file.parent)
    assert probe().returncode == 0
    os.utime(file, (0, 0))
    assert probe("--within", "60").returncode == 1
    assert "expected 60" in str(problem(file, within=60))


def test_requests_are_counted_by_route_and_not_by_path(callers: Callers) -> None:
    admin = callers("admin")
    for dataset in ("bears", "birds"):
        admin.get(f"/v1/projects/zoo/datasets/{dataset}")
    text = admin.get("/metrics").text
    line = next(line for line in text.splitlines() if 'status="404"' in line)
    assert '/projects/{project}/datasets/{dataset}"' in line
    assert line.endswith(" 2.0")
