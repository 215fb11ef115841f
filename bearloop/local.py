"""`bearloop up`: the whole platform on one machine, started and stopped in order."""

import fcntl
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bearloop.embedded_postgres import (
    OWNER,
    PROGRAM,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    start_postgres,
)
from bearloop.environment import child_environment
from bearloop.sessions import end_noted_session, note_session
from bearloop.sigterm import on_sigterm

HOST = "127.0.0.1"
START_LIMIT = 120.0
"""Seconds that a program may take until it answers; MLflow needs about ten on two cores."""
REVIVE_EVERY = 0.5
"""Seconds between two looks at whether a program died."""
FREE_LIMIT = 5.0
"""Seconds until the ports of programs that were ended by force are free."""
STOP_LIMIT = 15.0
"""Seconds between the polite signal and the kill."""


class LocalError(Exception):
    """The platform cannot start here: says which part, why, and the way out."""


@dataclass(frozen=True)
class Plan:
    """What to start, and where."""

    folder: Path
    api_port: int
    tracking_port: int
    say: Callable[[str], None]
    """Told each step as it happens."""
    store_url: str | None = None
    """`s3://bucket/prefix`, or another folder; None: the folder `store`."""

    @property
    def api_url(self) -> str:
        """The API's address."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def tracking_url(self) -> str:
        """MLflow's address."""
        return f"http://{HOST}:{self.tracking_port}"

    @property
    def login_file(self) -> Path:
        """Where the first token lies."""
        return self.folder / "login.json"


@dataclass
class Program:
    """A child process that is started again when it dies."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def note(self) -> Path:
        """Where its session is written down."""
        return self.log.with_suffix(".session")

    def start(self) -> None:
        """Start it; what it prints goes to its log, and what it left before is ended."""
        self.end_left()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C reaches `up`, which stops the programs in order.
                start_new_session=True,
            )
        note_session(self.note, self.process.pid)

    def stop(self) -> None:
        """End it politely, then by force."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        self.end_left()

    def end_left(self) -> bool:
        """End by force what is left of its session, whoever started that; True when some was."""
        left = end_noted_session(self.note)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        return left

    def died(self) -> bool:
        """Tell whether it was started and is no more."""
        return self.process is not None and self.process.poll() is not None


@dataclass(frozen=True)
class Platform:
    """The running programs."""

    plan: Plan
    programs: tuple[Program, ...]
    postgres: EmbeddedPostgres

    def revive(self) -> None:
        """Start again what died."""
        if self.postgres.died():
            self.plan.say("PostgreSQL died; starting it again")
            with suppress(EmbeddedPostgresError):  # the next look tries again
                self.postgres.start_again()
        for program in self.programs:
            if program.died():
                self.plan.say(f"{program.name} died (see {program.log}); starting it again")
                program.start()


@contextmanager
def running(plan: Plan) -> Iterator[Platform]:
    """Start everything in order, yield when the API answers, and stop in the opposite order."""
    for folder in ("store", "logs", "work", "mlflow"):
        (plan.folder / folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # SIGTERM, like Ctrl-C, unwinds the stack: nothing that was started is left behind.
        on_sigterm(_leave, lost=SystemExit)
        stack.enter_context(_only_one(plan.folder))
        # The system takes a moment to free the ports of what was ended by force.
        patience = FREE_LIMIT if _end_leftovers(plan) else 0.0
        _check_port(plan.api_port, "--port", patience)
        _check_port(plan.tracking_port, "--tracking-port", patience)
        postgres = start_postgres(plan.folder / "postgres")
        stack.callback(postgres.stop)
        plan.say("PostgreSQL runs")
        programs = _programs(plan, postgres)
        tracking, worker, api = programs
        _start(tracking, stack)
        _migrate(plan, postgres)
        _make_login(plan, api.environment)
        _start(api, stack)
        _answers(api, f"{plan.api_url}/readyz")
        plan.say(f"API answers at {plan.api_url}")
        _answers(tracking, f"{plan.tracking_url}/health")
        plan.say(f"MLflow answers at {plan.tracking_url}")
        # Jobs and endpoints are the worker's: they end after it, so that it starts none anew.
        stack.callback(_stop_processes, plan, worker.environment)
        _start(worker, stack)
        yield Platform(plan, programs, postgres)


def stay_up(platform: Platform) -> None:
    """Keep everything running until Ctrl-C or SIGTERM."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    while not asked_to_stop.wait(REVIVE_EVERY):
        platform.revive()
    platform.plan.say("stopping")


def free_port(wanted: int) -> int:
    """Return the wanted port, or any free one when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LocalError(f"no free port on {HOST}")


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        _lock(lock, folder)
        yield


def _lock(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LocalError(
            f"folder {folder}: another `bearloop up` runs there; stop it, or name another folder "
            "with --folder"
        ) from error


def _end_leftovers(plan: Plan) -> bool:
    """End the programs of an `up` that was killed, they hold the ports; True when some lived."""
    notes = sorted((plan.folder / "logs").glob("*.session"))
    left = [note.stem for note in notes if end_noted_session(note)]
    if left:
        plan.say(f"ended {', '.join(left)}: a killed `bearloop up` had left them behind")
    return bool(left)


def _check_port(port: int, option: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _is_free(port):
        if time.monotonic() >= deadline:
            raise LocalError(f"{option} {port}: the port is taken; name a free one with {option}")
        time.sleep(0.05)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do it: a port in TIME_WAIT from the last start is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _programs(plan: Plan, postgres: EmbeddedPostgres) -> tuple[Program, Program, Program]:
    postgres.create_database("bearloop")
    postgres.create_database("mlflow")
    settings = {
        "BEARLOOP_DATABASE_URL": postgres.url("bearloop", role=PROGRAM),
        "BEARLOOP_STORE_URL": plan.store_url or (plan.folder / "store").as_uri(),
        "BEARLOOP_TRACKING_URL": plan.tracking_url,
        "BEARLOOP_WORK_FOLDER": str(plan.folder / "work"),
        "BEARLOOP_LOCAL": "true",
        # One machine, one worker: when it dies, its successor need not wait a minute.
        "BEARLOOP_LEASE": "PT20S",
    }
    environment = child_environment(settings)
    logs = plan.folder / "logs"
    api = ["api", "--host", HOST, "--port", str(plan.api_port)]
    return (
        _tracking_server(plan, postgres.url("mlflow", role=OWNER)),
        Program("worker", ["api.worker"], environment, logs / "worker.log"),
        Program("api", api, environment, logs / "api.log"),
    )


def _tracking_server(plan: Plan, database_url: str) -> Program:
    command = ["mlflow", "server", "--host", HOST, "--port", str(plan.tracking_port)]
    command += ["--workers", "1", "--backend-store-uri", database_url]
    command += ["--artifacts-destination", str(plan.folder / "mlflow")]
    # Saves 860 MB of idle workers that nothing here asks for.
    environment = child_environment({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    return Program("mlflow", command, environment, plan.folder / "logs" / "mlflow.log")


def _migrate(plan: Plan, postgres: EmbeddedPostgres) -> None:
    changes = {
        "BEARLOOP_OWNER_URL": postgres.url("bearloop", role=OWNER),
        "BEARLOOP_PROGRAM_ROLE": PROGRAM,
    }
    _run(["migrations"], child_environment(changes))
    plan.say("database migrated")


def _make_login(plan: Plan, environment: dict[str, str]) -> None:
    first = ["api.first_token", "--url", plan.api_url, "--file", str(plan.login_file)]
    _run(first, environment)
    known = json.loads(plan.login_file.read_text())
    if known["url"] != plan.api_url:
        plan.login_file.write_text(json.dumps({**known, "url": plan.api_url}))


def _stop_processes(plan: Plan, environment: dict[str, str]) -> None:
    _run(["api.cluster.stop", str(plan.folder / "work")], environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _start(program: Program, stack: ExitStack) -> None:
    program.start()
    stack.callback(program.stop)


def _answers(program: Program, url: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if program.died():
            tail = program.log.read_text(errors="replace")[-2000:]
            raise LocalError(f"{program.name} died at its start; {program.log} ends with:\n{tail}")
        if _is_ok(url):
            return
        time.sleep(0.1)
    raise LocalError(f"{program.name} did not answer within {START_LIMIT:.0f} s; see {program.log}")


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
