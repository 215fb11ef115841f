"""Jobs as real processes: started once, adopted, ended politely, and never two at once."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from api.cluster.processes import ProcessCluster
from api.cluster.protocol import JobRequest, Phase, SeenJob
from api.cluster.stop import stop_all
from tests.fixtures.cluster import until
from tests.fixtures.programs import OBEDIENT, STUBBORN, lives, machine, sessions_below


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work"
    yield folder
    for process in list(sessions_below(folder)):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(work: Path) -> ProcessCluster:
    return machine(work)


def request(notes: Path, name: str = "run-j-1", program: str = "trainer") -> JobRequest:
    return JobRequest(
        name=name, program=program, environment={"NOTES": str(notes)}, title=f"run of {name}"
    )


def began(notes: Path) -> list[int]:
    """The numbers of the processes that began."""
    return [int(path.read_text()) for path in notes.glob("began-*")]


def seen(cluster: ProcessCluster, name: str = "run-j-1") -> SeenJob:
    job = cluster.job(name)
    assert job is not None
    return job


def await_phase(cluster: ProcessCluster, phase: Phase, name: str = "run-j-1") -> SeenJob:
    until(lambda: seen(cluster, name).phase is phase)
    return seen(cluster, name)


def begin(cluster: ProcessCluster, notes: Path, name: str = "run-j-1") -> SeenJob:
    cluster.launch(request(notes, name))
    running = await_phase(cluster, Phase.running, name)
    until(lambda: (notes / f"began-{running.attempt}").exists())
    return running


def test_a_job_runs_ends_and_shows_its_code_and_log(cluster: ProcessCluster, notes: Path) -> None:
    running = begin(cluster, notes)
    assert cluster.jobs() == [running]
    (notes / "go").write_text("0")
    ended = await_phase(cluster, Phase.succeeded)
    assert (ended.exit_code, ended.attempt) == (0, running.attempt)
    assert cluster.logs("run-j-1") == {"process": f"hello from {running.attempt}\n"}


@pytest.mark.parametrize("code", [1, 42, 75])
def test_an_exit_code_is_kept(cluster: ProcessCluster, notes: Path, code: int) -> None:
    begin(cluster, notes)
    (notes / "go").write_text(str(code))
    assert await_phase(cluster, Phase.failed).exit_code == code


def test_launching_twice_is_launching_once_even_from_many_workers(work: Path, notes: Path) -> None:
    clusters = [machine(work) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: one.launch(request(notes)), clusters))
    await_phase(clusters[0], Phase.running)
    until(lambda: len(began(notes)) == 1)
    (notes / "go").touch()
    await_phase(clusters[1], Phase.succeeded)
    assert len(began(notes)) == 1
    clusters[2].launch(request(notes))
    assert seen(clusters[2]).phase is Phase.succeeded


def test_a_restarted_worker_finds_the_process_again(
    cluster: ProcessCluster, work: Path, notes: Path
) -> None:
    running = begin(cluster, notes)
    again = machine(work)
    assert again.job("run-j-1") == running
    (notes / "go").touch()
    assert await_phase(again, Phase.succeeded).attempt == running.attempt


def test_a_killed_shim_is_a_crash_and_takes_its_job_with_it(
    cluster: ProcessCluster, work: Path, notes: Path
) -> None:
    begin(cluster, notes)
    (job,) = began(notes)
    (shim,) = sessions_below(work)
    shim.kill()
    ended = await_phase(cluster, Phase.failed)
    assert (ended.exit_code, ended.reason) == (None, "its process vanished")
    until(lambda: not lives(job))


def test_a_killed_shim_takes_its_job_s_children_with_it(work: Path, notes: Path) -> None:
    cluster = machine(work, STUBBORN)
    begin(cluster, notes)
    (shim,) = sessions_below(work)
    loader = int((notes / "loader").read_text())
    shim.kill()
    await_phase(cluster, Phase.failed)
    until(lambda: not lives(loader))


def test_a_killed_job_is_a_crash_with_its_signal(cluster: ProcessCluster, notes: Path) -> None:
    begin(cluster, notes)
    os.kill(began(notes)[0], signal.SIGKILL)
    assert await_phase(cluster, Phase.failed).exit_code == 137


def test_a_number_that_belongs_to_another_process_by_now_is_not_taken_for_the_shim(
    cluster: ProcessCluster, work: Path, notes: Path
) -> None:
    begin(cluster, notes)
    (shim,) = sessions_below(work)
    shim.kill()
    path = work / "jobs" / "run-j-1" / "started.json"
    path.write_text(path.read_text().replace(str(shim.pid), str(os.getpid())))
    assert seen(cluster).phase is Phase.failed
    assert lives(os.getpid())


def test_removing_asks_politely_first(cluster: ProcessCluster, notes: Path) -> None:
    running = begin(cluster, notes)
    cluster.remove("run-j-1")
    until(lambda: cluster.job("run-j-1") is None)
    assert (notes / f"asked-{running.attempt}").exists()
    assert cluster.jobs() == []


def test_removing_ends_by_force_what_does_not_listen(work: Path, notes: Path) -> None:
    cluster = machine(work, STUBBORN, grace=0.3)
    begin(cluster, notes)
    (job,) = began(notes)
    loader = int((notes / "loader").read_text())
    cluster.remove("run-j-1")
    assert seen(cluster).reason == "it was asked to end"
    until(lambda: cluster.job("run-j-1") is None)
    until(lambda: not lives(job))
    until(lambda: not lives(loader))


@pytest.mark.parametrize("program", [OBEDIENT, STUBBORN])
def test_what_is_ended_with_the_machine_was_interrupted(
    work: Path, notes: Path, program: str
) -> None:
    cluster = machine(work, program, grace=0.3)
    begin(cluster, notes)
    assert stop_all(work, limit=timedelta(seconds=20)) == 1
    assert seen(cluster).exit_code == 75
    assert list(sessions_below(work)) == []


def test_a_late_launch_of_a_removed_name_is_none(cluster: ProcessCluster, notes: Path) -> None:
    cluster.remove("run-j-1")
    cluster.launch(request(notes))
    assert cluster.job("run-j-1") is None
    assert began(notes) == []


def test_training_jobs_take_turns_and_say_for_whom_they_wait(
    cluster: ProcessCluster, notes: Path, tmp_path: Path
) -> None:
    begin(cluster, notes)
    cluster.launch(request(notes, "run-j-2"))
    waiting = seen(cluster, "run-j-2")
    assert (waiting.phase, waiting.reason) == (
        Phase.pending,
        "waits for run of run-j-1 to end",
    )
    cluster.launch(request(notes, "import-j-1", program="importer"))
    await_phase(cluster, Phase.running, "import-j-1")
    assert seen(cluster, "run-j-2").phase is Phase.pending
    (notes / "go").touch()
    until(lambda: seen(cluster, "run-j-2").phase is Phase.succeeded)


def test_a_waiting_job_outlives_the_worker_that_launched_it(
    cluster: ProcessCluster, work: Path, notes: Path
) -> None:
    begin(cluster, notes)
    cluster.launch(request(notes, "run-j-2"))
    (notes / "go").touch()
    again = machine(work)
    until(lambda: seen(again, "run-j-2").phase is Phase.succeeded)


def test_a_removed_waiting_job_never_begins(
    cluster: ProcessCluster, work: Path, notes: Path
) -> None:
    begin(cluster, notes)
    cluster.launch(request(notes, "run-j-2"))
    cluster.remove("run-j-2")
    (notes / "go").touch()
    await_phase(cluster, Phase.succeeded)
    assert cluster.job("run-j-2") is None
    assert len(began(notes)) == 1


def test_waiting_ends_early_when_a_job_ends(cluster: ProcessCluster, notes: Path) -> None:
    begin(cluster, notes)
    began_at = monotonic()
    (notes / "go").touch()
    cluster.wait(timedelta(seconds=120))
    assert monotonic() - began_at < 60
    assert seen(cluster).phase is Phase.succeeded


def test_waiting_ends_early_when_somebody_wakes_it(cluster: ProcessCluster) -> None:
    began_at = monotonic()
    Thread(target=cluster.wake).start()
    cluster.wait(timedelta(seconds=120))
    assert monotonic() - began_at < 60
