"""Endpoints of a cluster, whose own address this machine may not know."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from sqlalchemy import update

from api.database import Database
from api.tables import Endpoint
from bearloop.client import Client
from tests.bearloop.cli.conftest import Cli
from tests.bearloop.serving import served

INSIDE = "http://forest-bears-3.woods.invalid:8080"
"""Such a name is known nowhere (RFC 2606)."""
ANSWER = {"class": "black", "confidence": 0.9, "predictions": []}


@pytest.fixture
def tokens() -> list[str]:
    """What the endpoint's server was shown."""
    return []


@pytest.fixture
def forwarded(tokens: list[str]) -> Iterator[str]:
    """The endpoint's server, as `kubectl port-forward` would bring it here."""
    server = FastAPI()

    @server.post("/classify")
    def classify(request: Request) -> dict[str, Any]:
        tokens.append(request.headers["authorization"])
        return ANSWER

    with served(server) as url:
        yield url


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "bear.jpg"
    path.parent.mkdir()
    path.write_bytes(b"jpeg")
    return path


@pytest.fixture
def in_cluster(logged_in: Cli, database: Database, url: str, token: str) -> Cli:
    """The command line, with an endpoint `bears` that only its cluster knows."""
    Client(url, token, project="zoo").endpoints.create("bears")
    with database.transaction() as session:
        session.execute(update(Endpoint).values(url=INSIDE, ready=True))
    return logged_in


def test_an_endpoint_is_asked_where_this_machine_reaches_it(
    in_cluster: Cli, forwarded: str, picture: Path, tokens: list[str]
) -> None:
    (answer,) = in_cluster("classify", "bears", picture, "--url", f"{forwarded}/", "--json").json
    assert answer["class"] == "black"
    predicted = in_cluster("predict", "bears", picture.parent, "--url", forwarded, "--json").json
    assert [row["file"] for row in predicted] == ["bear.jpg"]
    assert tokens[0].startswith("Bearer bl")
    assert tokens == tokens[:1] * 2


def test_where_it_is_out_of_reach_the_way_out_is_named(in_cluster: Cli, picture: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}"
    for command, of in (("classify", picture), ("predict", picture.parent)):
        unknown = in_cluster(command, "bears", of, code=3).error
        assert unknown.startswith(f"nothing answers here at {INSIDE}: ")
        assert "name with --url an address at which this machine reaches it" in unknown
        refused = in_cluster(command, "bears", of, "--url", closed, code=3).error
        assert f"nothing answers here at {closed}" in refused
        assert "kubectl port-forward" in refused


@pytest.mark.parametrize("wrong", ["localhost:8080", "http://a:b", "ftp://here"])
def test_what_is_no_address_is_said_so(in_cluster: Cli, picture: Path, wrong: str) -> None:
    said = in_cluster("classify", "bears", picture, "--url", wrong, code=3).error
    assert said.startswith(f"{wrong} is no http address")
