"""A run on all images from the POST to the endpoint: real worker, trainer, MLflow and server."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.runs.conftest import RUNS
from tests.api.runs.test_real_run import BEARS, await_end, folder, worker  # noqa: F401
from tests.fixtures.cluster import until
from tests.fixtures.mlflow_server import mlflow_server  # noqa: F401
from tests.fixtures.workers import WorkerProcess

ENDPOINTS = "/v1/projects/zoo/endpoints"
ASKED = {
    "dataset": "bears",
    "recipe": "from-scratch",
    "size": 32,
    "epochs": 1,
    "batch_size": 8,
    "device": "cpu",
}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_run_on_all_images_comes_to_answer_once_its_twin_is_done(
    client: TestClient,
    callers: Callable[[str], TestClient],
    worker: WorkerProcess,  # noqa: F811
    folder: Path,  # noqa: F811
) -> None:
    worker.start()
    client.post("/v1/projects/zoo/datasets", json={"name": "bears"})
    source = {"kind": "folder", "uri": folder.as_uri()}
    await_end(client, client.post(f"{BEARS}/imports", json=source).headers["location"])
    assert client.post(f"{BEARS}/versions").status_code == 201
    assert client.post(RUNS, json={**ASKED, "train_on": "all"}).status_code == 202
    full = await_end(client, f"{RUNS}/1")
    assert (full["state"], full["metrics"], full["twin"]) == ("done", {}, None), full
    (epoch,) = client.get(f"{RUNS}/1/curves").json()["epochs"]
    assert (epoch["valid_loss"], epoch["error_rate"], epoch["error"]) == (None, None, None)

    promoter = callers("promoter")
    gates = [{"kind": "minimum", "at_most": 1}]
    promoter.post(ENDPOINTS, json={"name": "bears", "gates": gates})
    promotions = f"{ENDPOINTS}/bears/promotions"
    assert promoter.post(promotions, json={"run": 1}).json()["code"] == "no_twin"

    assert client.post(RUNS, json=ASKED).status_code == 202
    assert await_end(client, f"{RUNS}/2")["state"] == "done"
    assert client.get(f"{RUNS}/1").json()["twin"] == 2
    place = promoter.post(promotions, json={"run": 1}).headers["location"]
    under_way = ("checking", "rolling_out")
    until(lambda: promoter.get(place).json()["state"] not in under_way)
    shown = promoter.get(place).json()
    assert (shown["state"], shown["bundle"]) == ("live", full["bundle_digest"]), shown
    minimum, parity = shown["results"]
    assert minimum["words"].startswith("of run 2, its twin with splits kept: error on 4 valid")
    assert parity["seen"]["images"] == 16
