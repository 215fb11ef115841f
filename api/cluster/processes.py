"""Jobs and endpoints as processes of one machine.

Every call works on folders alone, so that a restarted worker, or a second one, goes on where the
first was ended.
"""

import fcntl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread

from api.cluster.folders import Life, ProcessFolder, folders_in
from api.cluster.protocol import (
    DeploymentRequest,
    JobRequest,
    Phase,
    SeenDeployment,
    SeenJob,
)
from api.cluster.servers import Servers
from bearloop.contract.environment import ATTEMPT

PROGRAMS: Mapping[str, Sequence[str]] = {
    "importer": (sys.executable, "-m", "importer"),
    "trainer": (sys.executable, "-m", "trainer"),
    "inference": (sys.executable, "-m", "inference"),
}
"""Program -> the command that starts it."""
TAKES_TURNS = "trainer"
"""Only this program's jobs wait for each other."""


@dataclass(frozen=True)
class ProcessRules:
    """How the processes of one machine are run."""

    inherited: Mapping[str, str]
    """Environment that every process gets."""
    at_once: int = 1
    """Training jobs that run at once."""
    grace: timedelta = timedelta(seconds=30)
    """Between SIGTERM and SIGKILL."""
    programs: Mapping[str, Sequence[str]] = field(default_factory=lambda: PROGRAMS)
    """Program -> the command that starts it."""


class ProcessCluster:
    """The cluster that one machine is."""

    def __init__(self, folder: Path, rules: ProcessRules) -> None:
        """Work in `folder`, which all workers of this machine share."""
        self.folder = folder
        self.rules = rules
        self._jobs = folder / "jobs"
        self._changed = Event()
        self._begun: dict[str, Thread] = {}
        self._servers = Servers(
            folder / "deployments",
            command=rules.programs["inference"],
            inherited=rules.inherited,
            grace=rules.grace,
        )

    def launch(self, request: JobRequest) -> None:
        if self._tombstone(request.name).exists():
            return
        content = {
            "program": request.program,
            "title": request.title or request.name,
            "command": list(self.rules.programs[request.program]),
            "environment": request.environment,
            "grace": self.rules.grace.total_seconds(),
        }
        self._folder(request.name).create(content)
        self._start_waiting()

    def jobs(self) -> list[SeenJob]:
        self._start_waiting()
        seen = (self._look(folder) for folder in folders_in(self._jobs))
        return [job for job in seen if job is not None]

    def job(self, name: str) -> SeenJob | None:
        self._start_waiting()
        return self._look(self._folder(name))

    def remove(self, name: str) -> None:
        # It stays when the folder goes: a stalled worker's late launch of that name is none.
        self._tombstone(name).parent.mkdir(parents=True, exist_ok=True)
        self._tombstone(name).touch()
        folder = self._folder(name)
        if folder.ask_to_end():
            folder.forget()

    def logs(self, name: str) -> dict[str, str]:
        return {"process": self._folder(name).log()}

    def deploy(self, request: DeploymentRequest) -> None:
        self._servers.deploy(request)

    def deployment(self, name: str) -> SeenDeployment | None:
        return self._servers.look(name)

    def deployments(self) -> list[str]:
        return self._servers.names()

    def undeploy(self, name: str) -> None:
        self._servers.undeploy(name)

    def wait(self, timeout: timedelta) -> None:
        self._changed.wait(timeout.total_seconds())
        self._changed.clear()

    def changed(self) -> set[str]:
        ended = {name for name, waiter in list(self._begun.items()) if not waiter.is_alive()}
        for name in ended:
            self._begun.pop(name, None)
        return ended

    def wake(self) -> None:
        self._changed.set()

    def _look(self, folder: ProcessFolder) -> SeenJob | None:
        sight = folder.look()
        if sight is None:
            return None
        if self._tombstone(folder.name).exists() and folder.ask_to_end():
            folder.forget()
            return None
        match sight.life:
            case Life.waiting:
                return SeenJob(folder.name, Phase.pending, reason=self._why_waiting(folder))
            case Life.running:
                reason = "it was asked to end" if folder.is_leaving else None
                return SeenJob(folder.name, Phase.running, attempt=sight.attempt, reason=reason)
            case Life.ended:
                phase = Phase.succeeded if sight.code == 0 else Phase.failed
                reason = "its process vanished" if sight.code is None else None
                return SeenJob(folder.name, phase, sight.code, sight.attempt, reason)

    def _start_waiting(self) -> None:
        with self._turn():
            folders = folders_in(self._jobs)
            free = self.rules.at_once - len(self._busy(folders))
            for folder in folders:
                request, sight = folder.request(), folder.look()
                if request is None or sight is None or sight.life is not Life.waiting:
                    continue
                free -= 1 if request["program"] == TAKES_TURNS else 0
                if free >= 0 or request["program"] != TAKES_TURNS:
                    self._start(folder, request["environment"])

    def _start(self, folder: ProcessFolder, environment: Mapping[str, str]) -> None:
        begun = self._begun.get(folder.name)
        # A shim takes a moment until it says that it began; a second one would only go again.
        if self._tombstone(folder.name).exists() or (begun and begun.is_alive()):
            return
        shim = folder.start({**self.rules.inherited, **environment}, attempt_name=ATTEMPT)
        self._begun[folder.name] = Thread(target=self._await_end, args=(shim,), daemon=True)
        self._begun[folder.name].start()

    def _await_end(self, shim: Popen[bytes]) -> None:
        shim.wait()
        self._changed.set()

    def _busy(self, folders: Sequence[ProcessFolder]) -> list[str]:
        """Return the titles of the running jobs that take turns."""
        titles = []
        for folder in folders:
            request, sight = folder.request(), folder.look()
            if request and sight and sight.life is Life.running:
                titles += [request["title"]] if request["program"] == TAKES_TURNS else []
        return titles

    def _why_waiting(self, folder: ProcessFolder) -> str:
        busy = [title for title in self._busy(folders_in(self._jobs)) if title != folder.name]
        if not busy:
            return "starts"
        return f"waits for {' or '.join(busy)} to end"

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One worker of this machine at a time starts processes."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        with (self.folder / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _folder(self, name: str) -> ProcessFolder:
        return ProcessFolder(self._jobs / name)

    def _tombstone(self, name: str) -> Path:
        return self.folder / "removed" / name
