"""What a source holds, decided from names alone: lines with class and split, in source order."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from bearloop.contract.imports import SPLIT_FOLDERS, UrlSource
from importer.problems import Refusal

Split = Literal["train", "valid", "test"]

UNSAFE_NAME: Final = "unsafe_name"
PASSED_OVER: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "ehthumbs.db"})
PICTURE_ENDINGS: Final = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp")


class Entry(NamedTuple):
    """One file of a folder or a zip."""

    path: str
    """Relative to the root, with `/`."""
    number: int
    """What the reader finds it by."""
    refusal: Refusal | None = None
    """Why it is not even opened, e.g. `unsafe_name`."""

    @property
    def is_unsafe(self) -> bool:
        """Whether its very name is not to be trusted, so that it names no class."""
        return self.refusal is not None and self.refusal.code == UNSAFE_NAME


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of the import: a row of the ledger to be."""

    position: int
    location: str
    class_name: str | None
    split: Split | None
    entry: int | None = None
    """The file's number; None for an address, and for a file that is not there."""
    refusal: Refusal | None = None


def visible(entries: Iterable[Entry]) -> list[Entry]:
    """Drop what operating systems leave behind: hidden files, `__MACOSX`, `Thumbs.db`."""
    return [entry for entry in entries if not _passed_over(entry.path)]


def unwrapped(entries: Sequence[Entry], *, labels: str | None = None) -> list[Entry]:
    """Take off one top folder that wraps everything else, as zips made of a folder have.

    A single top folder with pictures directly in it is a class, and one named like a split is
    a split: both stay. With a file of `labels`, folders are no classes, and only the file's
    own path can say that the top folder belongs to the names.
    """
    safe = [entry.path for entry in entries if not entry.is_unsafe]
    tops = {path.partition("/")[0] for path in safe}
    if len(tops) != 1 or labels in safe:
        return list(entries)
    top = tops.pop()
    inner = [path.partition("/")[2] for path in safe]
    is_class = any(_is_picture(path) and "/" not in path for path in inner)
    if not all(inner) or (labels is None and (is_class or top.lower() in SPLIT_FOLDERS)):
        return list(entries)
    return [
        entry if entry.is_unsafe else entry._replace(path=entry.path.removeprefix(f"{top}/"))
        for entry in entries
    ]


def folder_lines(entries: Sequence[Entry]) -> list[SourceLine]:
    """Read class and split off the folders.

    Files outside any class folder are no lines, unless they look like pictures, which
    somebody would miss.
    """
    splits = _split_folders(entries)
    found = (_folder_line(entry, splits) for entry in entries)
    return _numbered(line for line in found if line is not None)


def url_lines(source: UrlSource) -> list[SourceLine]:
    """Take the addresses class by class; blank lines and `#` comments are passed over."""
    lines: list[SourceLine] = []
    for name, listed in source.urls.items():
        addresses = [text.strip() for text in listed]
        kept = [text for text in addresses if text and not text.startswith("#")]
        label, refusal = class_name(name), _nameless(name)
        lines.extend(
            SourceLine(0, address, label, None, refusal=refusal)
            for address in kept[: source.max_per_class]
        )
    return _numbered(lines)


def class_name(text: str) -> str | None:
    """Trim and normalise (NFC) a class name; None when nothing is left."""
    return unicodedata.normalize("NFC", printable(text)).strip() or None


def printable(text: str) -> str:
    """Replace what neither UTF-8 nor PostgreSQL can hold: stray bytes of names, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _passed_over(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    # `..` is no hidden file: it must reach the ledger as an unsafe name.
    return any(
        part in PASSED_OVER or (part.startswith(".") and part not in {".", ".."}) for part in parts
    )


def _is_picture(path: str) -> bool:
    return path.lower().endswith(PICTURE_ENDINGS)


def _split_folders(entries: Sequence[Entry]) -> set[str]:
    # A top folder named `train` beside `bus` may be a class of trains: it is a split only
    # when pictures lie in folders below it.
    below = set()
    for entry in entries:
        parts = entry.path.split("/")
        if len(parts) > 2 and parts[0].lower() in SPLIT_FOLDERS:
            below.add(parts[0])
    return below


def _folder_line(entry: Entry, splits: set[str]) -> SourceLine | None:
    if entry.is_unsafe:
        return SourceLine(0, entry.path, None, None, refusal=entry.refusal)
    folders = entry.path.split("/")[:-1]
    split: Split | None = None
    if folders and folders[0] in splits:
        split = SPLIT_FOLDERS[folders.pop(0).lower()]
    name = class_name(folders[0]) if folders else None
    if name is not None:
        return SourceLine(0, entry.path, name, split, entry.number, entry.refusal)
    if entry.refusal is not None:
        return SourceLine(0, entry.path, None, split, entry.number, entry.refusal)
    if folders or _is_picture(entry.path):
        refusal = Refusal("no_class", "it lies in no class folder; move it into one")
        return SourceLine(0, entry.path, None, split, refusal=refusal)
    return None


def _nameless(name: str) -> Refusal | None:
    if class_name(name) is not None:
        return None
    return Refusal("no_class", "its list has no class name; give the list one")


def _numbered(lines: Iterable[SourceLine]) -> list[SourceLine]:
    return list(_positions(lines))


def _positions(lines: Iterable[SourceLine]) -> Iterator[SourceLine]:
    for position, line in enumerate(lines):
        yield SourceLine(
            position, line.location, line.class_name, line.split, line.entry, line.refusal
        )
