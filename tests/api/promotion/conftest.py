"""A zoo of runs, and a cluster whose servers answer."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.database import Database
from api.settings import Settings
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.promotion.cluster import FakeCluster, running_cluster
from tests.api.promotion.zoo import Zoo


@pytest.fixture
def zoo(database: Database, store: FolderStore, settings: Settings, project: Project) -> Zoo:
    quick = settings.model_copy(update={"roll_out": timedelta(minutes=5)})
    return Zoo(database=database, store=store, settings=quick, project=project)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with running_cluster() as running:
        yield running
