"""Fixtures that any test may ask for: a real PostgreSQL, a project, a client."""

import pytest

from tests.fixtures.database import database, database_name, postgres, template  # noqa: F401
from tests.fixtures.service import app, callers, client, project, settings, store  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest stories, so that the others run beside them and not after."""
    longest = ("life", "trainer")
    items.sort(key=lambda item: [folder not in item.path.parts for folder in longest])
