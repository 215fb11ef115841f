"""`bearloop up` as its users run it, and a way to kill any part of it at any instant."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from api.cluster.folders import Life, ProcessFolder, folders_in
from api.cluster.stop import stop_all
from bearloop.client import ApiProblem, Client, UnreachableError
from bearloop.local import free_port

PATIENCE = 600.0
"""Seconds that anything may take on a busy or slow machine."""
QUICK = {
    "BEARLOOP_POLL": "PT0.1S",
    "BEARLOOP_LEASE": "PT3S",
    "BEARLOOP_CALL_DEADLINE": "PT0.5S",
    "BEARLOOP_SWEEP": "PT1S",
    "BEARLOOP_ENDPOINT_POLL": "PT0.5S",
    "BEARLOOP_MAX_CRASHES": "20",
    "BEARLOOP_LINGER": "0.1",
    "OMP_NUM_THREADS": "1",
    # The tests' platform is their own: no login of this machine's user is read or written.
    "BEARLOOP_URL": "",
    "BEARLOOP_TOKEN": "",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""What a claim that a killed worker left costs, and how often a job may be killed."""
PROGRAMS = {"api": "api", "worker": "api.worker", "mlflow": "mlflow"}
"""Name -> the module that is its process."""
Found = TypeVar("Found")


@dataclass
class Up:
    """One platform on a folder of its own."""

    folder: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=lambda: free_port(0))
    tracking_port: int = field(default_factory=lambda: free_port(0))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tracking_url(self) -> str:
        return f"http://127.0.0.1:{self.tracking_port}"

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.folder / "store"

    def start(self) -> None:
        """Start it, and return when the API answers."""
        command = [sys.executable, "-c", "from bearloop.cli.main import main; main()", "up"]
        command += ["--folder", str(self.folder), "--port", str(self.port)]
        command += ["--tracking-port", str(self.tracking_port)]
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **QUICK, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.await_ready()
            # `up` starts the worker last.
            until(lambda: self.program("worker"), "the worker was started", alive=self.process)
        except AssertionError as error:
            said = (self.folder / "up.log").read_text(errors="replace")[-2000:]
            raise AssertionError(
                f"`bearloop up` did not start: {error}; it said:\n{said}"
            ) from error

    def await_ready(self) -> None:
        """Return when the API answers."""

        def ready() -> bool:
            with suppress(httpx.HTTPError):
                return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
            return False

        until(ready, f"the API answers; see {self.folder}/up.log", alive=self.process)

    def stop(self) -> None:
        """End it as Ctrl-C does; it stops all that it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)

    def client(self) -> Client:
        """Return a client of the project that a new platform has, as its admin."""
        login = json.loads((self.folder / "login.json").read_text())
        return Client(self.url, login["token"], project=login["project"])

    def authorization(self) -> str:
        """Return the header's value of the first admin."""
        login = json.loads((self.folder / "login.json").read_text())
        return f"Bearer {login['token']}"

    def program(self, name: str) -> psutil.Process | None:
        """Find one of the programs that `up` started; None while it is not there."""
        assert self.process is not None
        if name == "postgres":
            return self._postmaster()
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                words = child.cmdline()
                if words[1:2] == ["-m"] and words[2:3] == [PROGRAMS[name]]:
                    return child
        return None

    def kill_program(self, name: str) -> None:
        """Kill a program, and return when `up` has started another one."""
        victim = until(lambda: self.program(name), f"{name} lives")
        assert victim is not None
        killed = victim.pid
        victim.kill()
        until(lambda: (new := self.program(name)) and new.pid != killed, f"{name} is back")

    def mailbox(self, run: int) -> Path:
        """Return the folder of the mailbox of a run's job, once it was written."""

        def found() -> Path | None:
            for spec in self.store.glob("projects/*/jobs/*/spec.json"):
                if json.loads(spec.read_bytes()).get("run") == run:
                    return spec.parent
            return None

        mailbox = until(found, f"run {run} has a mailbox")
        assert mailbox is not None
        return mailbox

    def jobs(self) -> list[ProcessFolder]:
        """Return the jobs that have a process just now."""
        return [job for job in _running(self.folder / "work" / "jobs") if _works(job)]

    def servers(self, endpoint: str = "") -> list[ProcessFolder]:
        """Return the servers that have a process just now: an endpoint's, or all there are."""
        # Other stories' endpoints live on the same platform.
        found = (self.folder / "work" / "deployments").glob(f"{endpoint}*/servers")
        return [server for parent in found for server in _running(parent) if _works(server)]

    def kill_all(self) -> None:
        """Kill `up`, all programs, the database, all jobs and servers, as a power cut does."""
        assert self.process is not None
        for process in self._everything():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def kill_up(self) -> None:
        """Kill `up` alone; all that it started lives on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _everything(self) -> list[psutil.Process]:
        assert self.process is not None
        found = [psutil.Process(self.process.pid)]
        with suppress(psutil.Error):
            found += found[0].children(recursive=True)
        for one in [*self.jobs(), *self.servers()]:
            with suppress(psutil.Error):
                shim = psutil.Process(one.pid)
                found += [shim, *shim.children(recursive=True)]
        server = self._postmaster()
        if server is not None:
            found += [server, *server.children(recursive=True)]
        return found

    def _postmaster(self) -> psutil.Process | None:
        noted = self.folder / "postgres" / "postmaster.pid"
        with suppress(OSError, IndexError, psutil.Error):
            server = psutil.Process(int(noted.read_text().split()[0]))
            return None if server.status() == psutil.STATUS_ZOMBIE else server
        return None

    def end(self) -> None:
        """Stop it, and end whatever it left: nothing outlives the tests."""
        with suppress(subprocess.TimeoutExpired):
            self.stop()
        stop_all(self.folder / "work", limit=timedelta(seconds=5))
        for process in _below(self.folder):
            with suppress(psutil.Error):
                process.kill()


@contextmanager
def bearloop_up(**environment: str) -> Iterator[Up]:
    """Start a platform, and end it with the block."""
    # Not in pytest's own folder: that is closed to the database's system user.
    with tempfile.TemporaryDirectory(prefix="bearloop-life-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        told = {"BEARLOOP_CACHE": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config")}
        up = Up(folder, {**told, **environment})
        try:
            up.start()
            yield up
        finally:
            up.end()


def until(
    look: Callable[[], Found],
    what: str,
    *,
    alive: subprocess.Popen[bytes] | None = None,
    seconds: float = PATIENCE,
    instead: Callable[[], object] = lambda: "",
) -> Found:
    """Look until there is something, and return it; `alive` must live meanwhile.

    `instead` says at the end of the patience what there is.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what} {instead()}"
        assert alive is None or alive.poll() is None, f"it died before: {what}"
        time.sleep(0.02)
    return found


def patiently(ask: Callable[[], Found]) -> Found:
    """Ask until the API answers: it may be dead just now."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except UnreachableError:
            assert time.monotonic() < deadline
        except ApiProblem as problem:
            # Behind a database that starts again.
            if problem.status not in (502, 503, 504) or time.monotonic() > deadline:
                raise


def kill_process(found: ProcessFolder) -> None:
    """Kill a job's or a server's process; the shim over it lives on."""
    with suppress(psutil.Error):
        for child in psutil.Process(found.pid).children():
            child.kill()


def kill_shim(found: ProcessFolder) -> None:
    """Kill the shim over a job's or a server's process."""
    with suppress(psutil.Error):
        psutil.Process(found.pid).kill()


def _running(parent: Path) -> list[ProcessFolder]:
    found = folders_in(parent)
    return [one for one in found if (sight := one.look()) and sight.life is Life.running]


def _works(found: ProcessFolder) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(found.pid).children())
    return False


def _below(folder: Path) -> list[psutil.Process]:
    """Return what still works in the folder: programs name it on their command line or in it."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(process)
    return found
