"""One real platform for all tests of the life, with a run on it that nobody disturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bearloop.client import Client
from tests.fixtures.s3_server import s3_server  # noqa: F401
from tests.life.pictures import shapes
from tests.life.platform import Up, bearloop_up
from tests.life.story import Trained, train

HERE = Path(__file__).parent
STORY = 1200
"""Seconds that one story may take at most; the first one starts and trains everything."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(STORY))


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    with bearloop_up() as started:
        yield started


@pytest.fixture
def client(up: Up) -> Iterator[Client]:
    opened = up.client()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def trained(up: Up) -> Trained:
    opened = up.client()
    try:
        return train(opened, shapes(), "shapes")
    finally:
        opened.close()
