"""The folder store leaves no half of a file: not on a full disk, and not where a run was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from bearloop.store import TEMPORARY, FolderStore

DISK_FULL = """
import resource, sys
from pathlib import Path
from bearloop.store import FolderStore

store, verb, source = FolderStore(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.upload("a/b", source) if verb == "upload" else getattr(store, verb)("a/b", bytes(2000))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("verb", ["put", "put_new", "upload"])
def test_what_a_full_disk_refuses_leaves_nothing(tmp_path: Path, verb: str) -> None:
    source, folder = tmp_path / "source", tmp_path / "store"
    source.write_bytes(bytes(2000))
    ended = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(folder), verb, str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "File too large\n"
    assert not list((folder / "a").iterdir())


def test_clearing_takes_half_written_files_too_and_nothing_else(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key in ("jobs/1/checkpoints/1", "jobs/1/checkpoints/kept/2", "jobs/1/result", "jobs/12/a"):
        store.put(key, b"whole")
        (tmp_path / key).with_name(f"{TEMPORARY}half").write_bytes(b"half")
    store.clear("jobs/1/checkpoints/")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert left == ["jobs/1/.new-half", "jobs/12/.new-half"]
    assert [info.key for info in store.list("")] == ["jobs/1/result", "jobs/12/a"]
    store.clear("jobs/none/")
