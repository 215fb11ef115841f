"""Both stores answer alike, and the folder store leaves no half of a file of a write cut short."""

import subprocess
import sys
from pathlib import Path

import pytest

from bearloop.store import TEMPORARY, FolderStore, MissingObjectError, Store, open_store
from tests.fixtures.s3_server import s3_server, s3_url  # noqa: F401

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


@pytest.fixture(params=["folder", "s3"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder and a bucket in turn."""
    if request.param == "folder":
        return FolderStore(tmp_path)
    return open_store(request.getfixturevalue("s3_url"))


@pytest.mark.parametrize(("data", "start"), [(b"", 0), (b"bear", 4), (b"bear", 9)])
def test_a_range_past_the_end_holds_nothing(either: Store, data: bytes, start: int) -> None:
    either.put("a/b", data)
    assert either.get_range("a/b", start=start, length=3) == b""


def test_a_range_over_the_end_holds_what_there_is(either: Store) -> None:
    either.put("a/b", b"bear")
    assert either.get_range("a/b", start=2, length=9) == b"ar"


def test_a_range_of_nothing_is_missing(either: Store) -> None:
    with pytest.raises(MissingObjectError):
        either.get_range("a/none", start=0, length=1)
