"""Reads an uploaded zip without trusting it: names, sizes, ratios and the directory itself."""

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Final, Self

from bearloop.contract.imports import Limits
from bearloop.contract.jobs import Problem
from importer.problems import Refusal, RefusedError, SourceError, too_large
from importer.sources import UNSAFE_NAME, Entry

CHUNK: Final = 256 * 1024
# zipfile bounds what a read unpacks for these two only: LZMA and bzip2 may ask for gigabytes.
METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
END = struct.Struct("<4s4H2LH")
"""End of central directory: signature, disks (2), entries (2), size, offset, comment length."""
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
UTF8_NAME: Final = 1 << 11
"""Flag of an entry that says so of its name."""
NAME_BYTES: Final = 512
"""What an entry of the directory may take on average, its header of 46 bytes included."""


class Archive:
    """A context manager around an opened zip file on this machine's disk."""

    def __init__(self, path: Path, *, limits: Limits, upload: str) -> None:
        self._path = path
        self._limits = limits
        self._upload = upload

    def __enter__(self) -> Self:
        self._check_directory()
        try:
            self._zip = zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise self._problem("bad_zip", f"the upload is no zip file: {error}") from error
        self._infos = [info for info in self._zip.infolist() if not info.is_dir()]
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def entries(self) -> list[Entry]:
        """List the files in the zip's own order; raises SourceError for a bomb."""
        packed = sum(info.compress_size for info in self._infos)
        # Honest entries lie one after the other; only a bomb reads the same bytes twice.
        if packed > self._path.stat().st_size:
            raise self._problem("bomb", "the entries of the zip lie over each other")
        return [
            Entry(_name(info), number, self._refusal(info))
            for number, info in enumerate(self._infos)
        ]

    def read(self, number: int, *, most: int | None = None) -> bytes:
        """Unpack one entry within the limits, `most` bytes or a picture's; raises RefusedError."""
        info = self._infos[number]
        try:
            with self._zip.open(info) as file:
                return self._unpack(file, info, most=most or self._limits.max_bytes)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            ValueError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise RefusedError(
                "unreadable_entry", f"the zip's entry does not unpack: {error}; zip it again"
            ) from error

    def _unpack(self, file: IO[bytes], info: zipfile.ZipInfo, *, most: int) -> bytes:
        data = bytearray()
        while chunk := file.read(CHUNK):
            data += chunk
            # The sizes in the directory are claims; what comes out is counted.
            refusal = _cost(len(data), info.compress_size, self._limits, most=most)
            if refusal is not None:
                raise RefusedError(*refusal)
        return bytes(data)

    def _refusal(self, info: zipfile.ZipInfo) -> Refusal | None:
        if not _is_safe(_name(info)):
            return Refusal(
                UNSAFE_NAME, "the name leads out of the zip; use relative names with `/`"
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            return Refusal("symlink", "it is a link; zip the file that it points to")
        if info.flag_bits & 1:
            return Refusal("encrypted", "it is encrypted; zip it without a password")
        if info.compress_type not in METHODS:
            return Refusal(
                "unsupported_compression", "only stored and deflated entries are read; zip it again"
            )
        limits = self._limits
        return _cost(info.file_size, info.compress_size, limits, most=limits.max_bytes)

    def _check_directory(self) -> None:
        """Count the entries before zipfile holds them all in memory."""
        with self._path.open("rb") as file:
            count, size = _directory(file)
        if count > self._limits.max_entries or size > max(
            1 << 20, self._limits.max_entries * NAME_BYTES
        ):
            raise self._problem(
                "too_many_entries",
                f"the zip says that it has {count} entries in a directory of {size} bytes, "
                f"{self._limits.max_entries} are allowed",
            )

    def _problem(self, code: str, detail: str) -> SourceError:
        return SourceError(
            Problem(
                code=code,
                detail=detail,
                field="upload",
                value=self._upload,
                way_out="make the zip again from a folder of class folders, in parts if it is big",
            )
        )


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """Return entries (as many as fit, whatever is claimed) and bytes of the central directory."""
    length = file.seek(0, os.SEEK_END)
    tail_at = max(0, length - END.size - 0xFFFF)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + END.size > len(tail):
        return 0, 0  # zipfile says what is wrong
    end = END.unpack_from(tail, at)
    size, stop = end[5], tail_at + at
    if at >= LOCATOR_64.size and tail.startswith(b"PK\x06\x07", at - LOCATOR_64.size):
        stop -= LOCATOR_64.size + END_64.size
        file.seek(max(0, stop))
        size = END_64.unpack(file.read(END_64.size).ljust(END_64.size, b"\0"))[8]
    return _count(file, start=stop - size, stop=stop), size


def _count(file: IO[bytes], *, start: int, stop: int) -> int:
    count = 0
    position = max(0, start)
    while position + 46 <= stop:
        file.seek(position)
        header = file.read(46)
        if not header.startswith(b"PK\x01\x02"):
            break
        position += 46 + sum(struct.unpack_from("<3H", header, 28))
        count += 1
    return count


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name: UTF-8 where its bytes are, said (as the format has it) or not."""
    if info.flag_bits & UTF8_NAME:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode()
    except UnicodeError:
        return info.orig_filename


def _is_safe(name: str) -> bool:
    if not name or name.startswith("/") or "\\" in name or "\0" in name:
        return False
    parts = name.split("/")
    return ".." not in parts and ":" not in parts[0]


def _cost(unpacked: int, packed: int, limits: Limits, *, most: int) -> Refusal | None:
    if unpacked > limits.max_ratio * max(1, packed):
        return Refusal(
            "bomb", f"it unpacks to more than {limits.max_ratio:g} times its packed size"
        )
    return too_large(unpacked, most)
