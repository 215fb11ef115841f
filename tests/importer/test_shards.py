"""An import that several pods share: killed, run twice, run in any order, it ends as one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from bearloop.contract import environment
from bearloop.contract.imports import FolderSource, LedgerLine
from bearloop.contract.jobs import ExitCode, Progress, parts_prefix, progress_key, result_key
from bearloop.store import FolderStore
from importer.__main__ import run_job
from importer.settings import Settings, read_settings
from importer.shards import Shard
from importer.sources import SourceLine
from tests.fixtures.pictures import jpeg
from tests.importer.job import Job, write_files

DEADLINE = 120
"""Seconds for all pods of a job, on a busy machine."""


class SharedJob(Job):
    """One import of one store, shared by three pods."""

    count = 3

    def take(self, index: int) -> ExitCode:
        """Run one pod's program in this process."""
        self.attempts += 1
        return run_job(
            Settings(
                store_url=self.store.url,
                job=self.id,
                attempt=f"attempt-{self.attempts}",
                shard=index,
                shards=self.count,
            )
        )

    def begin(self, index: int) -> "subprocess.Popen[bytes]":
        """Start one pod as the program that it is."""
        self.attempts += 1
        told = {
            **os.environ,
            environment.STORE_URL: self.store.url,
            environment.JOB: self.id,
            environment.ATTEMPT: f"attempt-{self.attempts}",
            environment.INDEX: str(index),
            environment.SHARDS: str(self.count),
        }
        return subprocess.Popen([sys.executable, "-m", "importer"], env=told)

    @property
    def parts(self) -> int:
        """How many parts are done."""
        return len(list(self.store.list(parts_prefix(self.id))))

    @property
    def images(self) -> int:
        """How many pictures are stored."""
        return len(list(self.store.list("images/")))

    @property
    def is_done(self) -> bool:
        """Whether the one result is there."""
        return self.store.exists(result_key(self.id))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures in two classes; the last one is the first one again, in the other class."""
    files = {f"black/{n}.jpg": jpeg(n) for n in range(4)}
    files |= {f"teddy/{n}.jpg": jpeg(10 + n) for n in range(2)}
    return write_files(tmp_path / "bears", {**files, "teddy/again.jpg": jpeg(0)})


@pytest.fixture
def job(store: FolderStore, folder: Path) -> SharedJob:
    return SharedJob(store, FolderSource(uri=folder.as_uri()))


def check_whole(lines: list[LedgerLine]) -> None:
    """All seven are there, once each, in order; the repeated bytes are a duplicate."""
    assert [line.position for line in lines] == list(range(7))
    assert sorted(line.status for line in lines) == ["duplicate"] + ["stored"] * 6
    (again,) = [line for line in lines if line.status == "duplicate"]
    assert again.class_name == "teddy"
    assert again.sha256 in {line.sha256 for line in lines if line.class_name == "black"}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_whoever_comes_last_answers_for_all(job: SharedJob, order: tuple[int, ...]) -> None:
    for index in order[:-1]:
        assert job.take(index) == ExitCode.done
        assert not job.is_done
    assert job.take(order[-1]) == ExitCode.done
    check_whole(job.ledger())
    output = job.result().output
    assert output is not None
    assert output.kind == "import"
    assert (output.stored, output.duplicates, output.refused) == (6, 1, 0)


def test_a_pod_that_runs_twice_does_no_harm(job: SharedJob) -> None:
    for index in (0, 0, 1, 1, 0, 2):
        assert job.take(index) == ExitCode.done
    first = job.result()
    assert job.take(1) == ExitCode.done
    assert job.result() == first
    assert job.parts == 3
    check_whole(job.ledger())


def test_the_last_pod_may_die_between_its_part_and_the_result(job: SharedJob) -> None:
    for index in range(3):
        job.take(index)
    job.store.delete(result_key(job.id))
    assert job.take(1) == ExitCode.done
    check_whole(job.ledger())


def test_pods_that_saw_different_lists_never_join_theirs(job: SharedJob, folder: Path) -> None:
    job.take(0)
    write_files(folder, {"black/late.jpg": jpeg(99)})
    assert [job.take(index) for index in (1, 2)] == [ExitCode.done] * 2
    assert not job.is_done
    # The job is launched anew: now all see the same.
    assert job.take(0) == ExitCode.done
    assert [line.position for line in job.ledger()] == list(range(8))


def test_a_source_at_fault_ends_the_job_whichever_pod_says_so(store: FolderStore) -> None:
    job = SharedJob(store, FolderSource(uri="file:///nowhere"))
    assert job.take(2) == ExitCode.input_at_fault
    assert job.problem().code == "no_such_folder"
    assert job.take(0) == ExitCode.input_at_fault


def test_more_pods_than_pictures_are_too_many_but_harmless(
    store: FolderStore, tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "two", {"black/1.jpg": jpeg(1), "teddy/2.jpg": jpeg(2)})
    job = SharedJob(store, FolderSource(uri=folder.as_uri()))
    for index in range(3):
        assert job.take(index) == ExitCode.done
    assert [line.status for line in job.ledger()] == ["stored"] * 2


def test_each_pod_says_how_far_its_part_is(job: SharedJob) -> None:
    job.take(1)
    said = Progress.model_validate_json(job.store.get(progress_key(job.id, "attempt-1")))
    assert (said.shard, said.shards, said.done, said.total) == (1, 3, 2, 2)


def test_shares_are_neighbours_and_whole() -> None:
    lines = [SourceLine(n, str(n), "black", None) for n in range(11)]
    parts = [Shard(index, 4).taken(lines) for index in range(4)]
    assert [len(part) for part in parts] == [2, 3, 3, 3]
    assert [line for part in parts for line in part] == lines
    assert Shard().taken(lines) == lines


def test_the_cluster_names_the_pod() -> None:
    told = {"BEARLOOP_STORE_URL": "file:///x", "BEARLOOP_JOB": "j", "BEARLOOP_ATTEMPT": "a"}
    alone = read_settings(told)
    assert (alone.shard, alone.shards) == (0, 1)
    pod = read_settings({**told, "JOB_COMPLETION_INDEX": "2", "BEARLOOP_SHARDS": "3"})
    assert (pod.shard, pod.shards) == (2, 3)


class TestKilled:
    @pytest.fixture
    def job(self, store: FolderStore, tmp_path: Path) -> SharedJob:
        files = {f"black/{n:03}.jpg": jpeg(n, size=(400, 300)) for n in range(120)}
        folder = write_files(tmp_path / "many", files)
        return SharedJob(store, FolderSource(uri=folder.as_uri()))

    @pytest.mark.parametrize(
        "point",
        [
            "half of them",
            *(
                pytest.param(point, marks=pytest.mark.long)
                for point in ("at once", "the first picture", "a part", "all parts")
            ),
        ],
    )
    def test_pods_killed_at_any_point_and_begun_again_end_as_one(
        self, job: SharedJob, point: str
    ) -> None:
        reached: dict[str, Callable[[], bool]] = {
            "at once": lambda: True,
            "the first picture": lambda: job.images >= 1,
            "half of them": lambda: job.images >= 60,
            "a part": lambda: job.parts >= 1,
            "all parts": lambda: job.parts == 3,
        }
        pods = [job.begin(index) for index in range(3)]
        deadline = time.monotonic() + DEADLINE
        while not reached[point]() and time.monotonic() < deadline:
            time.sleep(0.005)
        for pod in pods:
            pod.kill()
            pod.wait(DEADLINE)
        again = [job.begin(index) for index in range(3)]
        assert [pod.wait(DEADLINE) for pod in again] == [ExitCode.done] * 3
        lines = job.ledger()
        assert [line.position for line in lines] == list(range(120))
        assert {line.status for line in lines} == {"stored"}
        assert job.images == 120
