"""A run from the POST to the report: real worker, importer, trainer and MLflow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from api.settings import Settings
from tests.api.runs.conftest import RUNS
from tests.fixtures.cluster import until
from tests.fixtures.mlflow_server import mlflow_server  # noqa: F401
from tests.fixtures.workers import WorkerProcess, workers
from tests.trainer.versions import picture

BEARS = "/v1/projects/zoo/datasets/bears"
NAMES = ("black", "grizzly")


@pytest.fixture
def worker(
    settings: Settings,
    tmp_path: Path,
    mlflow_server: str,  # noqa: F811
) -> Iterator[WorkerProcess]:
    tracked = settings.model_copy(update={"tracking_url": mlflow_server})
    with workers(tracked, tmp_path) as (made,):
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of each of two classes."""
    for label, name in enumerate(NAMES):
        for number in range(10):
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(label, number))
    return tmp_path / "pictures"


def await_end(client: TestClient, address: str) -> dict[str, object]:
    until(
        lambda: client.get(address).json()["state"] in ("done", "failed", "cancelled"), seconds=240
    )
    return dict(client.get(address).json())


@pytest.mark.long
def test_a_run_trains_and_leaves_report_bundle_and_model(
    client: TestClient,
    worker: WorkerProcess,
    folder: Path,
    mlflow_server: str,  # noqa: F811
) -> None:
    worker.start()
    client.post("/v1/projects/zoo/datasets", json={"name": "bears"})
    source = {"kind": "folder", "uri": folder.as_uri()}
    imported = await_end(client, client.post(f"{BEARS}/imports", json=source).headers["location"])
    assert imported["stored"] == 20, imported
    assert client.post(f"{BEARS}/versions").status_code == 201
    asked = {"dataset": "bears", "recipe": "from-scratch", "size": 32, "epochs": 1, "device": "cpu"}
    assert client.post(RUNS, json={**asked, "batch_size": 8}).status_code == 202
    run = await_end(client, f"{RUNS}/1")
    assert run["state"] == "done", (run, client.get(f"{RUNS}/1/logs").json())
    assert run["device"] == "cpu"
    assert run["metrics"]["valid"]["error"]["n"] == 4  # type: ignore[index]
    assert client.get(f"{RUNS}/1/report").status_code == 200
    assert len(client.get(f"{RUNS}/1/curves").json()["epochs"]) == 1
    assert run["mlflow_version"] == "1"
    until(lambda: client.get(f"{RUNS}/1").json()["finished_at"] is not None)
    assert "bundle_digest" in client.get(f"{RUNS}/1/logs").json()["text"]
    mlflow = MlflowClient(mlflow_server)
    model = mlflow.get_model_version("zoo.bears", "1")
    assert model.tags["bearloop.bundle"] == run["bundle_digest"]
    tracked = mlflow.get_run(str(model.run_id))
    assert (tracked.info.status, tracked.data.tags["bearloop.run"]) == ("FINISHED", "1")
    assert tracked.data.tags["mlflow.user"] == run["created_by"]
    assert tracked.data.tags["mlflow.source.name"].startswith("bearloop ")
    shows_what_it_took(tracked.data.metrics)
    shown = {
        file.path.rpartition("/")[2]
        for folder in ("plots", "tables")
        for file in mlflow.list_artifacts(str(model.run_id), folder)
    }
    plots = {"1-losses.png", "2-rates.png", "3-confusion.png", "4-top-losses.png"}
    assert shown == {*plots, "epochs.csv", "most-confused.csv"}


def shows_what_it_took(metrics: dict[str, float]) -> None:
    """Everything that is measured on a CPU was, and is something."""
    usage = {
        name.removeprefix("usage/"): value
        for name, value in metrics.items()
        if name.startswith("usage/")
    }
    measured = {"images_per_second", "cpu_utilisation", "peak_memory"}
    stages = {f"seconds_{stage}" for stage in ("cache", "fit", "evaluate", "fit_whole")}
    assert measured | stages <= usage.keys()
    assert min(usage.values()) > 0, usage
