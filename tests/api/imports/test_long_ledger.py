"""A ledger far longer than a batch: all of it becomes rows, and little of it is held at once."""

import tracemalloc
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from bearloop.ledger_file import BATCH
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears
from tests.api.imports.pictures import line, refused

LINES = 4 * BATCH
MOST = 32_000_000
"""Bytes; all lines and their claims at once would be 46 million, two batches are 21."""


@pytest.fixture
def traced() -> Iterator[None]:
    yield
    tracemalloc.stop()


def test_a_long_ledger_is_ingested_by_the_batch(
    client: TestClient, database: Database, store: FolderStore, *, traced: None
) -> None:
    bears = make_bears(client)
    client.post(f"{bears}/imports", json={"kind": "urls", "urls": {"a": ["https://example.org"]}})
    lines = [line(n, str(n), f"class {n % 3}") for n in range(LINES - 2)]
    lines.append(line(LINES - 2, "7", "class 0").model_copy(update={"status": "duplicate"}))
    lines.append(refused(LINES - 1, "http_404"))
    worker = Worker(database, store)
    output = worker.write(lines)
    lines.clear()
    tracemalloc.start()
    worker.ingest(output)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < MOST
    shown = client.get(f"{bears}/imports/1").json()
    counts = [shown[name] for name in ("stored", "duplicates", "refused", "conflicts")]
    assert counts == [LINES - 2, 1, 1, 1]
    sources = client.get(f"{bears}/imports/1/sources?limit=2").json()["items"]
    assert [row["location"] for row in sources] == ["class 0/0.png", "class 1/1.png"]
