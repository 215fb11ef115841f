"""Endpoints as processes: one port for ever, one bundle after another without a gap."""

import json
import os
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import pytest

from api.cluster.processes import ProcessCluster, ProcessRules
from api.cluster.protocol import DeploymentRequest, SeenDeployment
from api.cluster.stop import stop_all
from api.settings import inherited_environment
from tests.fixtures.cluster import until
from tests.fixtures.programs import sessions_below

SERVER = """
import http.server, json, os, signal, socket, socketserver, sys, threading
bundle = os.environ["BEARLOOP_BUNDLE"]
if bundle == "broken":
    sys.exit("the golden outputs differ")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        tokens = os.environ.get("BEARLOOP_ENDPOINT_TOKENS")
        body = json.dumps({"bundle": bundle, "tokens": tokens and open(tokens).read()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
server = Server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.02)
server.server_close()
"""
"""Stands in for `python -m inference`: the same flags, environment and port, started at once."""


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "work"
    stop_all(tmp_path / "work", limit=timedelta(seconds=0))


def machine(work: Path) -> ProcessCluster:
    programs = {"inference": (sys.executable, "-c", SERVER)}
    rules = ProcessRules(
        inherited=inherited_environment(), grace=timedelta(seconds=5), programs=programs
    )
    return ProcessCluster(work, rules)


@pytest.fixture
def cluster(work: Path) -> ProcessCluster:
    return machine(work)


def request(digest: str = "first", name: str = "bears") -> DeploymentRequest:
    return DeploymentRequest(name=name, digest=digest, environment={"BEARLOOP_BUNDLE": digest})


def look(cluster: ProcessCluster, name: str = "bears") -> SeenDeployment:
    seen = cluster.deployment(name)
    assert seen is not None
    return seen


def await_ready(cluster: ProcessCluster, name: str = "bears") -> SeenDeployment:
    until(lambda: look(cluster, name).ready)
    return look(cluster, name)


def ask(url: str | None) -> dict[str, str]:
    return dict(httpx.get(f"{url}/readyz", timeout=10).json())


def was_reset(error: BaseException | None) -> bool:
    """Say whether a server closed with the connection in its queue or in its hands.

    The stand-in does not drain as the real server does, so its last connections may break, in the
    handshake too. A port where nobody listens is another matter: that connection is refused.
    """
    while error is not None:
        if isinstance(error, ConnectionResetError | httpx.RemoteProtocolError):
            return True
        error = error.__cause__ or error.__context__
    return False


def test_a_deployment_answers_on_its_port(cluster: ProcessCluster) -> None:
    cluster.deploy(request())
    seen = await_ready(cluster)
    assert (seen.digest, seen.reason) == ("first", None)
    assert ask(seen.url)["bundle"] == "first"
    cluster.deploy(request(name="cats"))
    assert await_ready(cluster, "cats").url != seen.url


def test_a_new_bundle_takes_over_on_the_same_port_without_a_gap(
    cluster: ProcessCluster, work: Path
) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    answers: list[str] = []
    gaps: list[Exception] = []
    enough = Event()

    def keep_asking() -> None:
        while not enough.is_set():
            try:
                answers.append(ask(url)["bundle"])
            except httpx.TransportError as error:
                if not was_reset(error):
                    gaps.append(error)

    asker = Thread(target=keep_asking, daemon=True)
    asker.start()
    until(lambda: len(answers) > 5)
    cluster.deploy(request("second"))
    seen = await_ready(cluster)
    here = len(answers)
    until(lambda: len(answers) > here + 5)
    enough.set()
    asker.join()
    assert gaps == []
    assert (seen.digest, seen.url) == ("second", url)
    assert set(answers[here + 1 :]) == {"second"}
    assert len(list(sessions_below(work))) == 1


def test_a_bundle_that_refuses_to_serve_leaves_the_one_before_in_place(
    cluster: ProcessCluster,
) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    cluster.deploy(request("broken"))
    until(lambda: "golden outputs differ" in str(look(cluster).reason))
    assert not look(cluster).ready
    assert ask(url)["bundle"] == "first"


def test_a_killed_server_is_started_again_on_its_port(cluster: ProcessCluster, work: Path) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    (shim,) = sessions_below(work)
    for child in shim.children():
        child.kill()
    until(lambda: not shim.is_running() or shim.status() == psutil.STATUS_ZOMBIE)
    seen = await_ready(cluster)
    assert seen.url == url
    assert ask(url)["bundle"] == "first"


def test_a_server_that_nobody_came_to_start_is_made_anew(
    cluster: ProcessCluster, work: Path
) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    (shim,) = sessions_below(work)
    shim.kill()
    (folder,) = (work / "deployments" / "bears" / "servers").iterdir()
    (folder / "started.json").unlink()
    asked = folder / "request.json"
    created = json.loads(asked.read_text())
    asked.write_text(json.dumps({**created, "created": created["created"] - 60}))
    assert await_ready(cluster).url == url


def test_a_restarted_worker_finds_the_server_again(cluster: ProcessCluster, work: Path) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    (shim,) = sessions_below(work)
    again = machine(work)
    again.deploy(request())
    assert look(again).ready
    assert [process.pid for process in sessions_below(work)] == [shim.pid]
    assert look(again).url == url


def test_after_everything_was_ended_it_answers_on_its_port_again(
    cluster: ProcessCluster, work: Path
) -> None:
    cluster.deploy(request())
    url = await_ready(cluster).url
    assert stop_all(work, limit=timedelta(seconds=10)) == 1
    assert list(sessions_below(work)) == []
    assert await_ready(machine(work)).url == url


def test_tokens_lie_in_a_file_of_the_owner_and_change_without_a_restart(
    cluster: ProcessCluster, work: Path
) -> None:
    private = replace(request(), token_hashes=("ab" * 32,))
    cluster.deploy(private)
    url = await_ready(cluster).url
    (shim,) = sessions_below(work)
    assert ask(url)["tokens"] == f"{'ab' * 32}\n"
    tokens = work / "deployments" / "bears" / "tokens"
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o600
    cluster.deploy(replace(private, token_hashes=("cd" * 32, "ef" * 32)))
    assert await_ready(cluster).url == url
    assert ask(url)["tokens"] == f"{'cd' * 32}\n{'ef' * 32}\n"
    assert [process.pid for process in sessions_below(work)] == [shim.pid]


def test_undeployed_it_is_gone(cluster: ProcessCluster, work: Path) -> None:
    cluster.undeploy("never")
    assert cluster.deployments() == []
    cluster.deploy(request())
    assert machine(work).deployments() == ["bears"]
    await_ready(cluster)
    cluster.undeploy("bears")
    assert cluster.deployments() == []
    assert cluster.deployment("bears") is None
    until(lambda: not list(sessions_below(work)))
    until(lambda: cluster.deployment("bears") is None and not (work / "deployments/bears").exists())


def test_a_server_that_lost_its_shim_does_not_go_on(cluster: ProcessCluster, work: Path) -> None:
    cluster.deploy(request())
    await_ready(cluster)
    (shim,) = sessions_below(work)
    (server,) = shim.children()
    os.kill(shim.pid, signal.SIGKILL)
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    await_ready(cluster)
