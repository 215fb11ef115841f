"""What killed runs left half-written goes, and what is being written stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.leftovers import OLD, held, remove_leftovers

HOLDS = """
import sys, time
from pathlib import Path
from trainer.leftovers import held

with held(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("holds", flush=True)
    time.sleep(600)
"""


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(("seconds", "stays"), [(OLD - 60, True), (OLD + 60, False)])
def test_a_leftover_stays_for_a_day(tmp_path: Path, seconds: float, stays: bool) -> None:
    left = tmp_path / "left"
    left.write_bytes(b"half")
    age(left, seconds)
    remove_leftovers([left, tmp_path / "gone"])
    assert left.exists() is stays


def test_what_a_process_writes_stays_until_it_is_killed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    writer = subprocess.Popen([sys.executable, "-c", HOLDS, str(left)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"holds\n"
        # As on a disk that takes no notice of what is written to a map.
        age(left, 2 * OLD)
        remove_leftovers([left])
        assert left.read_bytes() == b"half"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    remove_leftovers([left])
    assert not left.exists()


def test_what_is_done_counts_from_its_end(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with held(done):
        age(done, 2 * OLD)
    remove_leftovers([done])
    assert done.exists()
