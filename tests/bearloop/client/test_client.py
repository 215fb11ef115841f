"""The SDK against a real API: problems, pages, and lines that break."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import func, select

from api.database import Database
from api.stores import below_project
from api.tables import AuditEvent, Project
from bearloop.client import ApiProblem, Client, UnreachableError
from bearloop.client.connection import place
from bearloop.store import FolderStore
from tests.api.evaluation.trained import CURVES, bears, train
from tests.api.imports.pictures import zipped
from tests.bearloop.serving import BreakingLine
from tests.fixtures.web import web_server

PNG = b"\x89PNG\r\n\x1a\n of a search"


@pytest.fixture
def zoo(url: str, token: str) -> Iterator[Client]:
    client = Client(url, token, project="zoo")
    yield client
    client.close()


def test_what_a_run_found_loads_as_tables(
    zoo: Client, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(12))
    epochs = zoo.runs.table(1, "epochs").to_pandas()
    assert list(epochs.valid_loss) == [point.valid_loss for point in CURVES.epochs]
    assert zoo.runs.table(1, "steps").column_names == ["step", "loss", "lr", "momentum"]
    images = zoo.runs.table(1, "images").to_pandas()
    assert len(images) == 12
    files = zoo.runs.files(1)
    report = pd.read_parquet(f"{files.store}/{files.report_loss}")
    assert list(report.sha256) == list(images.sha256)
    # The fixture's run is from before there were tables of curves.
    assert files.epochs is None


def test_a_search_of_a_rate_is_given_as_a_picture(
    zoo: Client, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(3))
    beside = zoo.runs.files(1).curves or ""
    own = below_project(store, project.id)
    own.put(beside.replace("curves.json", "lr-finder-head.png"), PNG)
    assert zoo.runs.lr_finder_picture(1) == zoo.runs.lr_finder_picture(1, stage="head") == PNG
    with pytest.raises(ApiProblem, match="no lr-find stage"):
        zoo.runs.lr_finder_picture(1, stage="whole")


def test_a_post_whose_answer_is_lost_does_its_work_once(
    url: str, token: str, database: Database
) -> None:
    line = BreakingLine(url, lost=2)
    client = Client(line.url, token, project="zoo")
    made = client.datasets.create("bears")
    assert made.name == "bears"
    assert line.carried == 3
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 1
    client.close()
    line.close()


def test_a_delete_whose_answer_is_lost_is_done(zoo: Client, url: str, token: str) -> None:
    zoo.endpoints.create("bears")
    line = BreakingLine(url, lost=1)
    client = Client(line.url, token, project="zoo")
    client.endpoints.delete("bears")
    assert list(zoo.endpoints.list()) == []
    client.close()
    line.close()


def test_an_upload_whose_answer_is_lost_is_sent_again_from_its_start(
    zoo: Client, url: str, token: str, tmp_path: Path
) -> None:
    zoo.datasets.create("bears")
    file = tmp_path / "bears.zip"
    file.write_bytes(zipped({"black/1.jpg": b"x" * 3_000_000}))
    line = BreakingLine(url, lost=1)
    client = Client(line.url, token, project="zoo")
    told: list[tuple[int, int]] = []
    name = client.datasets.upload("bears", file, show=lambda done, of: told.append((done, of)))
    size = file.stat().st_size
    assert told.count((size, size)) == 2
    assert len(told) > 4, "the file was read at once"
    assert name == zoo.datasets.upload("bears", file.read_bytes())
    client.close()
    line.close()


def test_pages_are_walked_to_their_end(zoo: Client) -> None:
    for number in range(5):
        zoo.datasets.create(f"bears-{number}")
    path = "/v1/projects/zoo/datasets"
    assert len(zoo.connection.get(path, limit=2)["items"]) == 2
    names = [item["name"] for item in zoo.connection.items(path, limit=2)]
    assert names == [f"bears-{number}" for number in range(5)]
    assert [dataset.name for dataset in zoo.datasets.list()] == names


def test_a_refusal_is_a_problem_with_field_value_and_way_out(zoo: Client) -> None:
    zoo.datasets.create("bears")
    with pytest.raises(ApiProblem) as refused:
        zoo.datasets.create("bears")
    problem = refused.value
    assert (problem.status, problem.code) == (409, "dataset_exists")
    assert (problem.field, problem.value) == ("name", "bears")
    assert problem.way_out
    assert problem.way_out in str(problem)


def test_names_cannot_lead_elsewhere(zoo: Client) -> None:
    assert place("/v1/projects/zoo/datasets", "../x?y#z") == (
        "/v1/projects/zoo/datasets/..%2Fx%3Fy%23z"
    )
    with pytest.raises(ApiProblem) as refused:
        zoo.datasets.get("bears?limit=1")
    assert refused.value.code == "unknown_dataset"
    assert refused.value.value == "bears?limit=1"


def test_an_api_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    with pytest.raises(UnreachableError, match="does not answer"):
        Client(f"http://127.0.0.1:{port}", "t", project="zoo").datasets.get("bears")


@pytest.mark.parametrize("address", ["localhost:80", "ftp://localhost", "http://localhost:port"])
def test_no_address_is_unreachable_at_once(address: str) -> None:
    with pytest.raises(UnreachableError, match="no http address"):
        Client(address, "t", project="zoo").datasets.get("bears")


def test_a_page_of_something_else_is_no_answer() -> None:
    with web_server() as web:
        for path, body in (("zoo", b"<html>"), ("moon", b"[]")):
            web.serve(f"/v1/projects/{path}/datasets", body, content_type="text/html")
        with pytest.raises(UnreachableError, match="not as bearloop"):
            list(Client(web.url, "t", project="zoo").datasets.list())
        web.serve("/v1/projects/mars/datasets/x", b"[1]", content_type="text/html", status=404)
        with pytest.raises(ApiProblem, match="answers 404"):
            Client(web.url, "t", project="mars").datasets.get("x")
