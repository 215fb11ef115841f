"""A folder of pixels of one side: memory-mapped shards that many processes read and fill at once.

A shard is `<name>.u8`, rows of [side, side, 3], beside `<name>.json`, the sha256 of each row.
The index is renamed into place last, so a shard that a crash cut short is never read.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bearloop.contract.preprocess import Preprocess
from trainer.leftovers import held

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Places:
    """Where each picture of a folder lies."""

    names: Sequence[str]
    """Of the shards."""
    rows: Mapping[str, tuple[int, int]]
    """sha256 -> (place in `names`, row)."""


class Shards:
    """One folder; what it is called decides what its pixels are, and they never change."""

    def __init__(self, path: Path, spec: Preprocess) -> None:
        """Open the folder of what `spec` makes, new or not."""
        self.path = path
        self.spec = spec
        path.mkdir(parents=True, exist_ok=True)
        _write_once(path / "preprocess", spec.canonical())

    @property
    def row_bytes(self) -> int:
        """Return what one picture takes."""
        return self.spec.size**2 * 3

    def places(self) -> Places:
        """Read the indices; shards that are not as long as theirs says do not count."""
        names: list[str] = []
        rows: dict[str, tuple[int, int]] = {}
        for index in sorted(self.path.glob("*.json")):
            shas: list[str] = json.loads(index.read_bytes())
            shard = index.with_suffix(".u8")
            if shard.exists() and shard.stat().st_size == len(shas) * self.row_bytes:
                rows.update((sha, (len(names), row)) for row, sha in enumerate(shas))
                names.append(index.stem)
        return Places(names, rows)

    def read(self, name: str) -> Bytes:
        """Map a shard, uint8 [n, side, side, 3], without a file that stays open.

        `np.memmap` keeps one, and a process may have 1024 of them, often. The map is private: what
        is written to it never reaches the file.
        """
        file = self.path / f"{name}.u8"
        mapped = torch.from_file(
            str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8
        )
        pixels: Bytes = mapped.numpy().reshape(-1, self.spec.size, self.spec.size, 3)
        return pixels

    @contextmanager
    def new(self, name: str, shas: Sequence[str]) -> "Iterator[np.memmap[Any, np.dtype[np.uint8]]]":
        """Fill a shard for these pictures, uint8 [n, side, side, 3], zeros at first.

        It is read once this ends, and gone where it ends early.
        """
        file, index = self.path / f"{name}.u8", self.path / f"{name}.json"
        shape = (len(shas), self.spec.size, self.spec.size, 3)
        try:
            with held(file):
                pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
                yield pixels
                pixels.flush()
                _write_whole(index, json.dumps(shas).encode())
        finally:
            if not index.exists():
                file.unlink(missing_ok=True)


def unfinished(folder: Path) -> Iterator[Path]:
    """Find what is half-written in the folders of shards below one."""
    yield from folder.glob("*/*.new")
    for file in folder.glob("*/*.u8"):
        if not file.with_suffix(".json").exists():
            yield file


def _write_once(path: Path, data: bytes) -> None:
    """Write what is the same whoever writes it, where nobody has."""
    if not path.exists():
        _write_whole(path, data)


def _write_whole(path: Path, data: bytes) -> None:
    """Let readers see all of the bytes or none, however many write them at once."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
