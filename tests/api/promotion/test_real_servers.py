"""Promotions onto real servers: processes of this machine that answer over HTTP."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi.testclient import TestClient

from api.cluster.processes import ProcessCluster, ProcessRules
from api.promotion.states import PromotionState
from bearloop.store import FolderStore
from tests.api.promotion.zoo import Zoo
from tests.inference import bundles

BEARS = "/v1/projects/zoo/endpoints/bears"
PATIENCE = 90.0
"""Seconds in which a server must come up on a busy machine."""
COLOURS = [bundles.RED, bundles.GREEN, bundles.BLUE, (90, 90, 90), (240, 240, 10), (5, 5, 5)]
IDS = {entry.name: entry.id for entry in bundles.CLASSES}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessCluster]:
    inherited = {"PATH": os.environ["PATH"], "BEARLOOP_LINGER": "0.1"}
    rules = ProcessRules(inherited=inherited, grace=timedelta(seconds=10))
    cluster = ProcessCluster(tmp_path / "cluster", rules)
    yield cluster
    for folder in (tmp_path / "cluster" / "deployments").glob("*/"):
        cluster.undeploy(folder.name)
    until(lambda: not servers(), "no server is left behind")


@pytest.fixture
def promoter(callers: Callable[[str], TestClient]) -> TestClient:
    client = callers("promoter")
    client.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    return client


def predict(shift: float = 0.0) -> Callable[[bytes], dict[int, float]]:
    """Predict without the product's code; `shift` moves probability between two classes."""
    known = {bundles.picture(colour): bundles.expected(colour) for colour in COLOURS}
    moves = {"black": shift, "grizzly": -shift, "teddy": 0.0}

    def of(picture: bytes) -> dict[int, float]:
        return {IDS[name]: p + moves[name] for name, p in known[picture].items()}

    return of


def add_run(zoo: Zoo, seed: int, *, shift: float = 0.0) -> tuple[int, str]:
    """Save a bundle and its run; return the run's number and the bundle's digest."""
    files = zoo.files
    assert isinstance(files, FolderStore)
    digest = bundles.save(files.folder, seed=seed).strip("/").rpartition("/")[2]
    pictures: list[tuple[bytes, str, int | None]] = [
        (bundles.picture(colour), "valid", IDS["black"]) for colour in COLOURS
    ]
    return zoo.add_run(digest, pictures=pictures, predict=predict(shift)), digest


def servers() -> list[psutil.Process]:
    """Return the inference servers below this process, shims left out."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "inference" in line and "--port" in line and line[1:3] == ["-m", "inference"]:
            found.append(process)
    return found


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def bring_about(
    zoo: Zoo, cluster: ProcessCluster, client: TestClient, answer: httpx.Response
) -> str:
    """Step the worker until the promotion came to an end; return its state."""
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]

    def ended() -> bool:
        zoo.step(cluster)
        return client.get(where).json()["state"] not in ("checking", "rolling_out")

    until(ended, f"{client.get(where).json()}")
    return str(client.get(where).json()["state"])


def test_promote_classify_promote_another_and_roll_back(
    zoo: Zoo, processes: ProcessCluster, promoter: TestClient
) -> None:
    token = promoter.post(BEARS + "/tokens", json={"name": "shop"}).json()["secret"]
    (one, first), (two, second) = add_run(zoo, 1), add_run(zoo, 2)
    assert first != second

    def ask(secret: str) -> httpx.Response:
        url = promoter.get(BEARS + "/status").json()["url"]
        headers = {"Authorization": f"Bearer {secret}"}
        picture = bundles.picture(bundles.BLUE)
        return httpx.post(f"{url}/classify", content=picture, headers=headers, timeout=30)

    started = promoter.post(BEARS + "/promotions", json={"run": one})
    assert bring_about(zoo, processes, promoter, started) == PromotionState.live
    answer = ask(token).json()
    assert answer["bundle"] == first
    assert {p["class"]: p["probability"] for p in answer["predictions"]} == pytest.approx(
        bundles.expected(bundles.BLUE), abs=1e-4
    )
    assert ask("bl_wrong").status_code == 401

    started = promoter.post(BEARS + "/promotions", json={"run": two})
    assert bring_about(zoo, processes, promoter, started) == PromotionState.live
    assert ask(token).json()["bundle"] == second

    started = promoter.post(BEARS + "/rollback")
    assert bring_about(zoo, processes, promoter, started) == PromotionState.live
    assert ask(token).json()["bundle"] == first

    def serves_again() -> bool:
        zoo.make_due()
        zoo.step(processes)
        return bool(promoter.get(BEARS + "/status").json()["ready"])

    until(lambda: len(servers()) == 1, "only the endpoint's own server is left")
    servers()[0].send_signal(signal.SIGKILL)
    until(lambda: not servers(), "the server is gone")
    until(serves_again, "the killed server comes back")
    assert ask(token).json()["bundle"] == first

    promoter.delete(BEARS)
    zoo.step(processes)
    until(lambda: not servers(), "a deleted endpoint leaves no process")
    assert zoo.states() == []


def test_a_report_that_differs_from_the_server_by_a_hundredth_is_refused(
    zoo: Zoo, processes: ProcessCluster, promoter: TestClient
) -> None:
    run, _ = add_run(zoo, 1, shift=0.01)
    started = promoter.post(BEARS + "/promotions", json={"run": run})
    assert bring_about(zoo, processes, promoter, started) == PromotionState.refused
    [parity] = promoter.get(started.headers["location"]).json()["results"]
    assert parity["seen"]["images"] == len(COLOURS)
    assert parity["seen"]["largest_difference"] == pytest.approx(0.01, abs=1e-4)
    assert promoter.get(BEARS + "/status").json()["should_serve"] is None


def test_a_bundle_that_its_server_refuses_fails_with_what_the_server_said(
    zoo: Zoo, processes: ProcessCluster, promoter: TestClient
) -> None:
    run, digest = add_run(zoo, 1)
    zoo.files.put(f"bundles/{digest}/model.onnx", b"other bytes")
    started = promoter.post(BEARS + "/promotions", json={"run": run})
    assert bring_about(zoo, processes, promoter, started) == PromotionState.failed
    reason = promoter.get(started.headers["location"]).json()["reason"]
    assert "refuses the bundle" in reason
    assert "model.onnx" in reason
    assert "sha256" in reason
