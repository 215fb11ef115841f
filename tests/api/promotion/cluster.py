"""A cluster with verbs: its endpoints answer over HTTP, and its callers may be killed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from api.cluster.protocol import DeploymentRequest, JobRequest, SeenDeployment, SeenJob

CLASSES = {70: "black", 3: "grizzly", 12: "teddy"}


class WorkerKilledError(BaseException):
    """The worker's process ended at this very instant: nothing of it runs on."""


def probabilities(sha256: str) -> dict[int, float]:
    """Return what every model of these tests sees in a picture: three numbers that sum to 1."""
    parts = [1 + int(sha256[at : at + 4], 16) for at in (0, 4, 8)]
    return {key: part / sum(parts) for key, part in zip(CLASSES, parts, strict=True)}


class FakeCluster:
    """Deployments as entries of a dictionary; all of them answer on one port."""

    def __init__(self) -> None:
        self.requests: dict[str, DeploymentRequest] = {}
        self.serving: dict[str, str] = {}
        """Name of a deployment -> digest of what really answers there."""
        self.calls: list[str] = []
        self.asked: list[str] = []
        """Names of deployments that classified a picture."""
        self.address = ""
        self._broken: set[str] = set()
        self._shifts: dict[str, float] = {}
        self._refusals: dict[str, str] = {}
        self._kill_at: int | None = None
        self._before: tuple[str, Callable[[], object]] | None = None
        self._during: tuple[str, Callable[[], object]] | None = None

    # --- verbs of the tests ---

    def break_bundle(self, digest: str) -> None:
        """Servers of this bundle never come to answer."""
        self._broken.add(digest)

    def mend_bundle(self, digest: str) -> None:
        self._broken.discard(digest)

    def shift(self, digest: str, by: float) -> None:
        """Servers of this bundle answer otherwise than the trainer saw."""
        self._shifts[digest] = by

    def refuse_changes(self, name: str, reason: str) -> None:
        """The cluster takes no further change of the deployment; what is there stays."""
        self._refusals[name] = reason

    def kill_server(self, name: str) -> None:
        """The deployment's server is gone; nobody noticed yet."""
        del self.serving[name]

    def kill_worker_at(self, moment: int | None) -> None:
        """Kill the caller at the n-th moment from now: call k is moment 2k before, 2k + 1 after."""
        self._kill_at = None if moment is None else 2 * len(self.calls) + moment

    def before(self, call: str, act: Callable[[], object]) -> None:
        """Let this happen once, while the next caller stalls before it did anything."""
        self._before = (call, act)

    def during(self, call: str, act: Callable[[], object]) -> None:
        """Let this happen once, at the end of the next such call, while its caller stalls."""
        self._during = (call, act)

    # --- the protocol ---

    def deploy(self, request: DeploymentRequest) -> None:
        with self._call(f"deploy {request.name}"):
            if request.name in self._refusals:
                return
            self.requests[request.name] = request
            if request.digest not in self._broken:
                self.serving[request.name] = request.digest

    def deployment(self, name: str) -> SeenDeployment | None:
        with self._call(f"look {name}"):
            request = self.requests.get(name)
        if request is None:
            return None
        ready = self.serving.get(name) == request.digest
        why = None if ready else "exit code 42: golden outputs differ"
        reason = self._refusals.get(name, why)
        return SeenDeployment(name, request.digest, ready, f"{self.address}/{name}", reason)

    def deployments(self) -> list[str]:
        with self._call("list"):
            return sorted(self.requests)

    def undeploy(self, name: str) -> None:
        with self._call(f"undeploy {name}"):
            self.requests.pop(name, None)
            self.serving.pop(name, None)

    def launch(self, request: JobRequest) -> None:
        raise AssertionError("no jobs here")

    def jobs(self) -> list[SeenJob]:
        return []

    def job(self, name: str) -> SeenJob | None:
        return None

    def remove(self, name: str) -> None:
        raise AssertionError("no jobs here")

    def logs(self, name: str) -> dict[str, str]:
        return {}

    def wait(self, timeout: timedelta) -> None:
        return None

    def changed(self) -> set[str]:
        return set()

    def classify(self, name: str, picture: bytes, token: str) -> tuple[int, object]:
        """Answer like the inference server: status and body."""
        digest = self.serving.get(name)
        if digest is None:
            return 503, {"detail": "no server"}
        hashes = self.requests[name].token_hashes
        if hashes is not None and hashlib.sha256(token.encode()).hexdigest() not in hashes:
            return 401, {"detail": "not a token of this endpoint"}
        self.asked.append(name)
        seen = probabilities(hashlib.sha256(picture).hexdigest())
        by = self._shifts.get(digest, 0.0)
        moves = dict(zip(CLASSES, (by, -by, 0), strict=True))
        told = [
            {"class_id": key, "class": CLASSES[key], "probability": seen[key] + moves[key]}
            for key in CLASSES
        ]
        return 200, {"bundle": digest, "predictions": told}

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        before = 2 * len(self.calls)
        self.calls.append(name)
        self._die_at(before)
        if self._before is not None and self._before[0] == name:
            (_, act), self._before = self._before, None
            act()
        yield
        if self._during is not None and self._during[0] == name:
            (_, act), self._during = self._during, None
            act()
        self._die_at(before + 1)

    def _die_at(self, moment: int) -> None:
        if self._kill_at is not None and moment >= self._kill_at:
            self._kill_at = None
            raise WorkerKilledError


@contextmanager
def running_cluster() -> Iterator[FakeCluster]:
    """Run the cluster's HTTP server."""
    cluster = FakeCluster()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.removesuffix("/classify").strip("/")
            picture = self.rfile.read(int(self.headers["Content-Length"]))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, body = cluster.classify(name, picture, token)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    cluster.address = f"http://127.0.0.1:{server.server_port}"
    yield cluster
    server.shutdown()
    server.server_close()
    thread.join()
