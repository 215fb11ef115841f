"""Folders of shards: opened and filled by many at once, with no file kept open."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from bearloop.contract.preprocess import Preprocess
from trainer.cache import Pixels
from trainer.data import Item
from trainer.leftovers import remove_leftovers
from trainer.shards import Bytes, Shards, unfinished

SPEC = Preprocess(size=8)
TINY_SHARDS = """
import os, resource
from pathlib import Path
from tests.trainer.test_shards import filled, item
from trainer.cache import Pixels

folder = filled(Path({folder!r}), shards=200)
used = len(os.listdir("/dev/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
pixels = Pixels(folder, [item(number) for number in range(200)])
print(pixels.gather(range(200))[:, 0, 0, 0].sum(), len(os.listdir("/dev/fd")) - used)
"""


class CountingShards(Shards):
    """Tells which shards were mapped."""

    mapped: list[str]

    def read(self, name: str) -> Bytes:
        self.mapped = [*getattr(self, "mapped", []), name]
        return super().read(name)


def item(number: int) -> Item:
    sha = f"{number:064}"
    return Item(sha256=sha, label=0, split="train", group=sha, fold=0)


def filled(path: Path, *, shards: int) -> Shards:
    """Write shards of one picture each, all of whose bytes are its number."""
    folder = Shards(path, SPEC)
    for number in range(shards):
        with folder.new(f"{number:032}", [item(number).sha256]) as pixels:
            pixels[:] = number
    return folder


def test_what_a_folder_holds_is_written_once_however_many_open_it(tmp_path: Path) -> None:
    together, folder = Barrier(8), tmp_path / "pixels"

    def opened(_: int) -> Shards:
        together.wait()
        return Shards(folder, SPEC)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(opened, range(8)))
    (said,) = folder.iterdir()
    assert Preprocess.model_validate_json(said.read_bytes()) == SPEC
    os.utime(said, (0, 0))
    before = said.stat()
    Shards(folder, SPEC)
    # Neither truncated nor replaced: who reads it meanwhile sees it whole.
    assert (said.stat().st_ino, said.stat().st_mtime) == (before.st_ino, 0)


def test_a_folder_is_opened_whose_description_a_crash_emptied(tmp_path: Path) -> None:
    filled(tmp_path, shards=1)
    (tmp_path / "preprocess").write_bytes(b"")
    assert Shards(tmp_path, SPEC).places().rows == {item(0).sha256: (0, 0)}


def test_many_shards_keep_no_file_open(tmp_path: Path) -> None:
    code = TINY_SHARDS.format(folder=str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(sum(range(200))), "0"]


def test_shards_that_hold_none_of_the_pictures_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, shards=5)
    folder = CountingShards(tmp_path, SPEC)
    pixels = Pixels(folder, [item(3), item(1), item(3)])
    assert folder.mapped == [f"{1:032}", f"{3:032}"]
    assert pixels.gather([1, 0, 2])[:, 0, 0, 0].tolist() == [1, 3, 3]


def test_what_is_written_to_a_map_never_reaches_the_file(tmp_path: Path) -> None:
    folder = filled(tmp_path, shards=1)
    folder.read(f"{0:032}")[:] = 9
    assert not folder.read(f"{0:032}").any()


def test_an_index_without_its_shard_is_passed_over(tmp_path: Path) -> None:
    folder = filled(tmp_path, shards=2)
    (tmp_path / f"{0:032}.u8").unlink()
    assert folder.places().rows == {item(1).sha256: (0, 0)}


@pytest.mark.parametrize("rows", [1, 3])
def test_a_shard_is_read_by_who_did_not_write_it(tmp_path: Path, rows: int) -> None:
    folder, name = Shards(tmp_path, SPEC), uuid.uuid4().hex
    made = np.random.default_rng(0).integers(0, 255, (rows, 8, 8, 3), dtype=np.uint8)
    with folder.new(name, [item(row).sha256 for row in range(rows)]) as pixels:
        pixels[:] = made
        assert not folder.places().rows
    assert np.array_equal(Shards(tmp_path, SPEC).read(name), made)


def test_a_shard_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    folder = Shards(tmp_path, SPEC)
    with pytest.raises(KeyboardInterrupt), folder.new("a", [item(0).sha256]):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["preprocess"]


def test_the_half_written_shards_of_a_folder_are_found(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pixels", shards=1)
    (folder.path / "preprocess.1f.new").write_bytes(b"{")
    with folder.new("a", [item(1).sha256]):
        found = list(unfinished(tmp_path))
        for path in found:
            os.utime(path, (0, 0))
        remove_leftovers(found)
        # The one is being written.
        assert [path.name for path in unfinished(tmp_path)] == ["a.u8"]
    assert {path.name for path in found} == {"a.u8", "preprocess.1f.new"}
    assert not list(unfinished(tmp_path))
