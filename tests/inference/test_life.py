"""A server's life: proved before it listens, full, replaced on its port, and drained."""

import io
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest
from PIL import Image

from bearloop.contract.environment import BUNDLE, STORE_URL
from tests.fixtures.ports import free_port
from tests.inference import bundles
from tests.inference.bundles import BLUE, picture
from tests.inference.conftest import Eventually, Server, Start


def refused(server: Server) -> str:
    output = server.output()
    assert server.process.returncode == 42, output
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
    return output


def slow_picture() -> bytes:
    """Return a picture that takes about half a second to decode, below the pixel limit."""
    noise = Image.frombytes("L", (1000, 1000), os.urandom(1_000_000)).resize((6500, 6500))
    written = io.BytesIO()
    noise.save(written, "PNG", compress_level=1)
    return written.getvalue()


def test_a_model_that_answers_otherwise_than_the_trainers_does_not_listen(
    start: Start, store: Path
) -> None:
    server = start({BUNDLE: bundles.save(store, shift=0.002)})
    assert "golden/0: a probability differs by 0.002" in refused(server)


def test_a_difference_within_the_tolerance_is_served(start: Start, store: Path) -> None:
    start({BUNDLE: bundles.save(store, shift=0.0005)}).wait_until_ready()


def test_a_bundle_that_proves_nothing_is_refused(start: Start, store: Path) -> None:
    assert "no golden" in refused(start({BUNDLE: bundles.save(store, golden=())}))


def test_a_changed_file_is_refused(start: Start, store: Path) -> None:
    prefix = bundles.save(store, seed=7)
    (store / prefix / "model.onnx").write_bytes(bundles.model_bytes() + b" ")
    assert "sha256" in refused(start({BUNDLE: prefix}))


def test_what_is_missing_is_named(start: Start) -> None:
    assert f"{STORE_URL} is not set" in refused(start({STORE_URL: ""}))
    assert "card.json" in refused(start({BUNDLE: f"bundles/{'0' * 64}/"}))
    wrong = refused(start({"BEARLOOP_THREADS": "none", "BEARLOOP_LINGER": "soon"}))
    assert "BEARLOOP_THREADS is 'none'" in wrong
    assert "BEARLOOP_LINGER is 'soon'" in wrong


@pytest.mark.usefixtures("s3_url")
def test_a_store_that_comes_late_is_waited_for(start: Start, store: Path, bundle: str) -> None:
    name = f"late-{uuid4().hex}"
    waits, leaves = (start({STORE_URL: f"s3://{name}/project"}) for _ in range(2))
    for server in (waits, leaves):
        assert server.process.stdout is not None
        assert any("waits for the store: " in line for line in server.process.stdout)

    leaves.terminate()
    leaves.output()
    assert leaves.process.returncode == 0

    with closing(boto3.client("s3")) as s3:
        s3.create_bucket(Bucket=name)
        for file in (store / bundle).rglob("*"):
            if file.is_file():
                s3.upload_file(str(file), name, f"project/{file.relative_to(store)}")
    waits.wait_until_ready(bundle.split("/")[1])


def test_what_does_not_fit_the_queue_is_sent_away(start: Start) -> None:
    server = start({"BEARLOOP_THREADS": "1", "BEARLOOP_QUEUE": "1"}).wait_until_ready()
    data = slow_picture()
    with ThreadPoolExecutor(8) as callers:
        answers = list(
            callers.map(
                lambda _: httpx.post(f"{server.url}/classify", content=data, timeout=60), range(8)
            )
        )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert set(statuses) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == "busy"
    # The places are free again.
    assert server.client.post("/classify", content=picture()).status_code == 200
    assert "bearloop_pool_taken 0.0" in server.client.get("/metrics").text


def test_a_request_in_flight_is_answered_after_sigterm(
    start: Start, eventually: Eventually
) -> None:
    server = start().wait_until_ready()
    data = picture(BLUE)
    head = f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + data[:20])
        server.terminate()
        # The port is closed, the request is not.
        eventually(lambda: not _accepts(server.port))
        assert server.process.poll() is None
        connection.sendall(data[20:])
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"class":"teddy"' in answer
    assert b"connection: close" in answer.lower()
    assert "served the last request" in server.output()
    assert server.process.returncode == 0


def test_a_leaving_server_is_not_ready_and_still_answers(
    start: Start, eventually: Eventually
) -> None:
    server = start({"BEARLOOP_LINGER": "2"}).wait_until_ready()
    server.terminate()
    eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
    answer = httpx.post(f"{server.url}/classify", content=picture())
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    server.output()
    assert server.process.returncode == 0


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept connections", "new connections"])
def test_a_second_server_takes_the_port_over_and_no_request_fails(
    start: Start, store: Path, keep_alive: bool
) -> None:
    port = free_port()
    digests = [bundles.save(store, seed=seed) for seed in (11, 12, 13)]
    server = start({BUNDLE: digests[0]}, port=port).wait_until_ready()
    load = Load(server.url, keep_alive=keep_alive)
    try:
        for prefix in digests[1:]:
            successor = start({BUNDLE: prefix}, port=port)
            successor.wait_until_ready(prefix.split("/")[1])
            server.terminate()
            server.output()
            assert server.process.returncode == 0
            server = successor
        load.wait_for(digests[-1].split("/")[1])
    finally:
        answers = load.stop()
    assert load.failures == []
    assert set(answers) == {prefix.split("/")[1] for prefix in digests}
    assert len(answers) > 100


class Load:
    """Four callers that classify without pause, and note who answered and what failed."""

    def __init__(self, url: str, *, keep_alive: bool) -> None:
        self.failures: list[str] = []
        self._url = f"{url}/classify"
        self._keep_alive = keep_alive
        self._answers: list[str] = []
        self._stop = threading.Event()
        self._callers = [threading.Thread(target=self._call) for _ in range(4)]
        for caller in self._callers:
            caller.start()

    def wait_for(self, digest: str) -> None:
        deadline = time.monotonic() + 120
        while self._answers[-1:] != [digest]:
            assert time.monotonic() < deadline, "the new server does not answer"
            self._stop.wait(0.02)

    def stop(self) -> list[str]:
        self._stop.set()
        for caller in self._callers:
            caller.join()
        return self._answers

    def _call(self) -> None:
        data = picture()
        limits = httpx.Limits(max_keepalive_connections=1 if self._keep_alive else 0)
        with httpx.Client(limits=limits, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self._url, content=data)
                    self._answers.append(answer.raise_for_status().json()["bundle"])
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False
