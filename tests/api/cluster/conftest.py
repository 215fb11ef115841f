"""A stand-in API server in which a release's owner stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.cluster.api_server import ApiServer, api_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[ApiServer, str]]:
    """The server, and the path of a kubeconfig that names it."""
    with api_server(tmp_path) as running:
        running[0].put("configmaps", {"metadata": {"name": "forest-owner", "uid": "u"}})
        yield running
