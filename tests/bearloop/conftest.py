"""A real API with the project `zoo` in it, for the SDK and the command line."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.bearloop.serving import served


@pytest.fixture
def url(app: FastAPI, callers: object) -> Iterator[str]:
    with served(app) as url:
        yield url


@pytest.fixture
def token(callers: Callable[[str], TestClient]) -> str:
    """Return an admin's."""
    return callers("admin").headers["authorization"].removeprefix("Bearer ")
