"""Real servers as processes, one per test or shared by a module."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from bearloop.contract.environment import BUNDLE, ENDPOINT_TOKENS, STORE_URL
from tests.fixtures.ports import free_port
from tests.fixtures.s3_server import s3_server, s3_url  # noqa: F401
from tests.house.source import ROOT
from tests.inference import bundles

TOKEN = "a-token-of-this-endpoint"
START = 60.0
"""Seconds that a start may take on a busy machine."""


class Server:
    """One `python -m inference`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def wait_until_ready(self, bundle: str = "") -> "Server":
        """Poll until the server answers, with this bundle if one is named."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output()
            try:
                # A connection of its own each time: two servers may share the port.
                answer = httpx.get(f"{self.url}/readyz", timeout=5)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200 and answer.json()["bundle"] in (bundle or answer.text):
                return self
        raise AssertionError("the server is not ready in time")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def output(self) -> str:
        """Wait for the end and return what the server wrote."""
        return self.process.communicate(timeout=START)[0]


class Start(Protocol):
    """Starts a server with these variables in its environment."""

    def __call__(
        self, environment: dict[str, str] | None = None, *, port: int | None = None
    ) -> Server: ...


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def bundle(store: Path) -> str:
    return bundles.save(store)


@pytest.fixture(scope="module")
def start(store: Path, bundle: str) -> Iterator[Start]:
    started: list[Server] = []

    def begin(environment: dict[str, str] | None = None, *, port: int | None = None) -> Server:
        chosen = port or free_port()
        variables = {STORE_URL: store.as_uri(), BUNDLE: bundle, "BEARLOOP_LINGER": "0.1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "inference", "--port", str(chosen)],
            env=os.environ | variables | (environment or {}),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(Server(process, chosen))
        return started[-1]

    yield begin
    for server in started:
        server.process.kill()
        server.process.communicate()
        server.client.close()


@pytest.fixture(scope="module")
def public(start: Start) -> httpx.Client:
    return start().wait_until_ready().client


@pytest.fixture(scope="module")
def private(start: Start, tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    file = tmp_path_factory.mktemp("secret") / "tokens"
    file.write_text(hashlib.sha256(TOKEN.encode()).hexdigest() + "\n", encoding="ascii")
    client = start({ENDPOINT_TOKENS: str(file)}).wait_until_ready().client
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def eventually() -> Eventually:
    def poll(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START
        while not holds():
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.02)

    return poll
