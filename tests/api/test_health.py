"""Alive, ready, and counted."""

from collections.abc import Callable

from fastapi.testclient import TestClient

from api.app import create_app
from api.database import Database
from api.settings import Settings
from bearloop.store import FolderStore

Callers = Callable[[str], TestClient]


def test_it_is_ready_when_database_and_store_answer(client: TestClient) -> None:
    assert client.get("/readyz").json() == {"status": "ok"}


def test_readiness_names_what_is_missing(settings: Settings, store: FolderStore) -> None:
    gone = Database("postgresql+psycopg://bearloop@127.0.0.1:9/bearloop?connect_timeout=1")
    with TestClient(create_app(settings, database=gone, store=store)) as nobody:
        answer = nobody.get("/readyz")
        assert nobody.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database"]


def test_requests_are_counted_by_route_and_not_by_path(callers: Callers) -> None:
    admin = callers("admin")
    for dataset in ("bears", "birds"):
        admin.get(f"/v1/projects/zoo/datasets/{dataset}")
    text = admin.get("/metrics").text
    line = next(line for line in text.splitlines() if 'status="404"' in line)
    assert '/projects/{project}/datasets/{dataset}"' in line
    assert line.endswith(" 2.0")
