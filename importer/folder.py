"""Reads a folder, on disk or in S3: the files below it in name order, one at a time."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bearloop.store import MissingObjectError, Store
from importer.problems import Refusal, RefusedError, too_large
from importer.sources import Entry


class Files(Protocol):
    """What a folder and a zip have in common."""

    def entries(self) -> list[Entry]:
        """List every file, in an order that a second listing repeats."""
        ...

    def read(self, number: int, *, most: int | None = None) -> bytes:
        """Return a file's bytes, `most` of them or by default a picture's; raises RefusedError."""
        ...


class DiskFolder:
    """A folder of this machine."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root.resolve()
        self._max_bytes = max_bytes
        self._paths: list[str] = []

    def entries(self) -> list[Entry]:
        self._paths = sorted(
            path.relative_to(self._root).as_posix() for path in _files_below(self._root)
        )
        return [
            Entry(path, number, self._refusal(self._root / path))
            for number, path in enumerate(self._paths)
        ]

    def read(self, number: int, *, most: int | None = None) -> bytes:
        path, most = self._root / self._paths[number], most or self._max_bytes
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise RefusedError("unreadable_file", f"cannot be read: {error.strerror}") from error
        return within(data, most)

    def _refusal(self, path: Path) -> Refusal | None:
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                return self._link_refusal(path)
        except OSError as error:
            return Refusal("unreadable_file", f"cannot be looked at: {error.strerror}")
        if not stat.S_ISREG(mode):
            # Opening a named pipe would wait for ever.
            return Refusal("not_a_file", "it is neither a file nor a folder")
        return None

    def _link_refusal(self, path: Path) -> Refusal | None:
        target = path.resolve()
        if target.is_file() and target.is_relative_to(self._root):
            return None
        return Refusal("symlink", "it is a link to outside the folder; put the file there")


class StoreFolder:
    """A prefix of a bucket."""

    def __init__(self, store: Store, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._keys: list[str] = []

    def entries(self) -> list[Entry]:
        found = [info for info in self._store.list("") if not info.key.endswith("/")]
        self._keys = [info.key for info in found]
        return [
            Entry(info.key, number, too_large(info.size, self._max_bytes))
            for number, info in enumerate(found)
        ]

    def read(self, number: int, *, most: int | None = None) -> bytes:
        most = most or self._max_bytes
        try:
            data = self._store.get_range(self._keys[number], start=0, length=most + 1)
        except MissingObjectError as error:
            raise RefusedError("unreadable_file", "it went away while we read") from error
        return within(data, most)


def within(data: bytes, most: int) -> bytes:
    """Return the data, or raise RefusedError when there is more than allowed."""
    refusal = too_large(len(data), most)
    if refusal is not None:
        raise RefusedError(*refusal)
    return data


def _files_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        # Linked folders are not walked into; they are listed, so that the ledger names them.
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            yield Path(folder) / name
