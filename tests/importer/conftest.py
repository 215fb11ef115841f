"""What the import job's tests stand on: a store, a web server, an S3 server, a mailbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bearloop.store import FolderStore
from tests.fixtures.s3_server import s3_server, s3_url  # noqa: F401
from tests.fixtures.web import Web, web_server

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def site() -> Iterator[Web]:
    with web_server() as running:
        yield running


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared data is not there")
    return SHARED
