"""Endpoints as processes: one server per deployment, on a port that is kept for its name.

Servers share the port while one bundle takes over from another: the new one binds it only after
its golden check, then the old one is asked to end and drains.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import psutil

from api.cluster.folders import Life, ProcessFolder, folders_in
from api.cluster.protocol import DeploymentRequest, SeenDeployment
from bearloop.contract.environment import ATTEMPT, ENDPOINT_TOKENS
from bearloop.contract.jobs import ExitCode

HOST = "127.0.0.1"
WANTED, TOKENS, FAILED = "wanted.json", "tokens", "failed.json"
LONGEST_PAUSE = 60.0
"""Seconds between two starts of a server that ends by itself; they begin at one and double."""
BEGINS_WITHIN = 10.0
"""Seconds in which a shim must say that it began."""
ANSWER = 5.0
"""Seconds in which a server must say that it is ready."""


@dataclass(frozen=True)
class Wanted:
    """What a deployment should run."""

    digest: str
    environment: Mapping[str, str]
    private: bool
    port: int

    @property
    def key(self) -> str:
        """Name what a server was started with: another key takes another server."""
        parts = [self.digest, dict(self.environment), self.private, self.port]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Servers:
    """The deployments of one machine, as folders below `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str],
        inherited: Mapping[str, str],
        grace: timedelta,
    ) -> None:
        self.folder = folder
        self.command = command
        self.inherited = inherited
        self.grace = grace

    def deploy(self, request: DeploymentRequest) -> None:
        """Write down what should answer, and begin to bring it about."""
        with self._turn():
            before = self._wanted(request.name)
            wanted = Wanted(
                digest=request.digest,
                environment=request.environment,
                private=request.token_hashes is not None,
                port=before.port if before else self._free_port(),
            )
            self._write_tokens(request)
            if wanted != before:
                _replace(self.folder / request.name / WANTED, json.dumps(vars(wanted)))
            self._advance(request.name, wanted)

    def look(self, name: str) -> SeenDeployment | None:
        """Observe the deployment, and bring it one step nearer to what should answer."""
        with self._turn():
            self._clear_removed()
            wanted = self._wanted(name)
            return self._advance(name, wanted) if wanted else None

    def names(self) -> list[str]:
        """List the deployments that are wanted."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{WANTED}"))

    def undeploy(self, name: str) -> None:
        """Stop wanting it; its servers drain and end."""
        with self._turn():
            (self.folder / name / WANTED).unlink(missing_ok=True)
            for server in self._servers(name):
                server.ask_to_end()
            self._clear_removed()

    def _advance(self, name: str, wanted: Wanted) -> SeenDeployment:
        seen = SeenDeployment(
            name=name,
            digest=wanted.digest,
            ready=False,
            url=f"http://{HOST}:{wanted.port}",
            reason="the server starts",
        )
        new, old = self._split(name, wanted)
        failure = self._failure(name, wanted)
        if failure:
            # Said until a server is ready: the next start alone makes nothing better.
            refused = failure["code"] == ExitCode.input_at_fault
            seen = replace(seen, reason=failure["reason"], refused=refused)
        if new is None:
            if failure is None or time.time() >= failure["again_at"]:
                self._start(name, wanted)
            return seen
        if not _listens(new, wanted.port):
            return seen
        gone = [server.ask_to_end() for server in old]
        if not all(gone):
            return replace(seen, reason="the server of the bundle before drains")
        if not _answers(wanted):
            return replace(seen, reason="the server does not say that it is ready")
        (self.folder / name / FAILED).unlink(missing_ok=True)
        return replace(seen, ready=True, reason=None, refused=False)

    def _split(self, name: str, wanted: Wanted) -> tuple[ProcessFolder | None, list[ProcessFolder]]:
        """Return the server of what is wanted, and those of before; ended ones are forgotten."""
        new: ProcessFolder | None = None
        old = []
        for server in self._servers(name):
            request, sight = server.request(), server.look()
            if request is None or sight is None:
                continue
            is_new = request["key"] == wanted.key and not server.is_leaving
            if sight.life is Life.waiting and time.time() > request["created"] + BEGINS_WITHIN:
                # Whoever made it was killed before the start; a late shim sees the tombstone.
                server.ask_to_end()
                server.forget()
            elif sight.life is Life.ended:
                if is_new:
                    self._write_failure(name, server, code=sight.code)
                server.forget()
            elif is_new and new is None:
                new = server
            else:
                old.append(server)
        return new, old

    def _failure(self, name: str, wanted: Wanted) -> dict[str, Any] | None:
        """Return how the last server of what is wanted ended by itself, if none was ready since."""
        failed = _read(self.folder / name / FAILED)
        return failed if failed and failed["key"] == wanted.key else None

    def _start(self, name: str, wanted: Wanted) -> None:
        server = ProcessFolder(self.folder / name / "servers" / f"{wanted.digest[:12]}-{uuid4()}")
        command = [*self.command, "--host", HOST, "--port", str(wanted.port)]
        server.create({"command": command, "key": wanted.key, "grace": self.grace.total_seconds()})
        environment = {**self.inherited, **wanted.environment}
        if wanted.private:
            environment[ENDPOINT_TOKENS] = str(self.folder / name / TOKENS)
        shim = server.start(environment, attempt_name=ATTEMPT)
        Thread(target=shim.wait, daemon=True).start()  # so that it leaves no zombie

    def _write_failure(self, name: str, server: ProcessFolder, *, code: int | None) -> None:
        before = _read(self.folder / name / FAILED)
        request = server.request() or {}
        same = before is not None and before["key"] == request.get("key")
        times = before["times"] + 1 if before and same else 0
        lines = server.log().strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        how = "vanished" if code is None else f"ended with exit code {code}"
        failure = {
            "key": request.get("key"),
            "code": code,
            "times": times,
            "again_at": time.time() + (min(2.0**times, LONGEST_PAUSE) if times else 0),
            "reason": f"the server {how}{said}",
        }
        _replace(self.folder / name / FAILED, json.dumps(failure))

    def _write_tokens(self, request: DeploymentRequest) -> None:
        if request.token_hashes is None:
            return
        path = self.folder / request.name / TOKENS
        content = "".join(f"{entry}\n" for entry in request.token_hashes)
        # Servers read it again when it changes, so that a revoked token ends without a restart.
        if not path.exists() or path.read_text() != content:
            _replace(path, content)

    def _servers(self, name: str) -> Sequence[ProcessFolder]:
        return folders_in(self.folder / name / "servers")

    def _wanted(self, name: str) -> Wanted | None:
        found = _read(self.folder / name / WANTED)
        return Wanted(**found) if found else None

    def _free_port(self) -> int:
        kept = {found["port"] for path in self.folder.glob(f"*/{WANTED}") if (found := _read(path))}
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port: int = probe.getsockname()[1]
            if port not in kept:
                return port

    def _clear_removed(self) -> None:
        for path in self.folder.glob("*/"):
            if (path / WANTED).exists():
                continue
            ended = [server.ask_to_end() for server in self._servers(path.name)]
            if all(ended):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One worker of this machine at a time starts and ends servers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / "servers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _listens(server: ProcessFolder, port: int) -> bool:
    """Tell whether this very process takes connections: it shares the port with the one before."""
    pid = server.pid
    if pid is None:
        return False
    try:
        found = [c for p in psutil.Process(pid).children(True) for c in p.net_connections("tcp")]
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found)


def _answers(wanted: Wanted) -> bool:
    try:
        answer = httpx.get(f"http://{HOST}:{wanted.port}/readyz", timeout=ANSWER, trust_env=False)
        return answer.status_code == 200 and answer.json()["bundle"] == wanted.digest
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def _replace(path: Path, content: str) -> None:
    """Write the file whole, for its owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}-{uuid4()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(content)
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content
