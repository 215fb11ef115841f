"""A run with a report, and a review over it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Trained, bears, train


@pytest.fixture
def trained(database: Database, store: FolderStore, project: Project) -> Trained:
    """Run 1 of 12 images; by doubt they go i00000, i00001, … and every fourth is mistaken."""
    return train(database, store, project, bears(12))


@pytest.fixture
def review(client: TestClient, trained: Trained) -> dict[str, Any]:
    """Review 1 over the 12 images, in screens of five."""
    answer = client.post("/v1/projects/zoo/reviews", json={"run": 1})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
