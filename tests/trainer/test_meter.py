"""A process tells what it uses while it works, and what it told outlives it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pynvml import NVML_ERROR_NOT_SUPPORTED, NVMLError

from bearloop.store import FolderStore, StoreError
from tests.trainer.team import DEADLINE
from trainer.cost import FIT
from trainer.mailbox import Mailbox
from trainer.meter import Meter, busy_share, cores, peak_memory
from trainer.ranks import alone

MB = 2**20


class FullStore(FolderStore):
    """Takes nothing."""

    def put(self, key: str, data: bytes) -> None:
        raise StoreError(f"put {key!r}: no space left")


def meter(store: FolderStore, *, attempt: str = "a") -> Meter:
    return Meter(alone(), Mailbox(store, job="job-1", attempt=attempt))


def test_a_process_that_works_is_told_from_one_that_waits(tmp_path: Path) -> None:
    def share(meter: Meter) -> float:
        used = meter.used()
        assert (used.cores, used.node) == (cores(), 0)
        return used.cpu_seconds / used.fit_seconds

    working, waiting = (meter(FolderStore(tmp_path)) for _ in range(2))
    until = time.process_time() + 0.2
    with working.measure(FIT):
        while time.process_time() < until:
            pass
    with waiting.measure(FIT):
        subprocess.run([sys.executable, "-c", ""], check=True, timeout=DEADLINE)
    assert share(working) > 2 * share(waiting)


def test_cores_are_counted_while_it_trains_only(tmp_path: Path) -> None:
    watched = meter(FolderStore(tmp_path))
    with watched.measure("cache"):
        sum(range(10**6))
    used = watched.used()
    assert used.seconds.keys() == {"cache"}
    assert (used.cpu_seconds, used.fit_seconds) == (0, 0)


def test_an_attempt_that_ends_in_an_error_has_told_what_it_used(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    left, next_one = meter(store), meter(store, attempt="b")
    with pytest.raises(RuntimeError), left.watching(), left.measure(FIT):
        raise RuntimeError("evicted")
    with next_one.watching(), next_one.measure("cache"):
        pass
    found = {one.attempt: one.seconds.keys() for one in next_one.used_by_all()}
    assert found == {"a": {FIT}, "b": {"cache"}}


def test_what_it_uses_is_kept_while_it_works(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    working, other = meter(store), meter(store, attempt="b")
    deadline = time.monotonic() + DEADLINE
    with working.watching(), working.measure(FIT):
        while len(other.used_by_all()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    (told,) = [one for one in other.used_by_all() if one.attempt == "a"]
    assert told.fit_seconds > 0


def test_what_another_version_of_the_program_kept_is_passed_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("jobs/job-1/attempts/old/used-0.json", b'{"hours": 3}')
    assert [one.attempt for one in meter(store).used_by_all()] == ["a"]


def test_a_store_that_takes_nothing_ends_no_training(tmp_path: Path) -> None:
    watched = meter(FullStore(tmp_path))
    with watched.watching(), watched.measure(FIT):
        pass
    assert watched.used().fit_seconds > 0


def test_a_driver_that_does_not_say_how_busy_a_gpu_is_ends_no_training() -> None:
    def part_of_a_gpu(device: torch.device) -> int:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)

    device = torch.device("cuda", 0)
    assert busy_share(device, ask=part_of_a_gpu) == []
    assert busy_share(device, ask=lambda _: 40) == [0.4]


def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    before = peak_memory()
    more = bytearray(before + 100 * MB)
    more[:: 2**12] = b"x" * len(more[:: 2**12])
    del more
    assert peak_memory() >= before + 100 * MB
