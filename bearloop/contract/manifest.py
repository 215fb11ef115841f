"""A frozen version's content and its digest; Parquet is only its carrier."""

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

from bearloop.contract.record import ClassEntry

FOLD_BUCKETS = 60
"""Folds are stored as 0..59; a run with k folds uses `fold % k`, even for every k from 2 to 6."""


class ManifestRow(NamedTuple):
    """One image of a version; a tuple, because a version may hold a million."""

    sha256: str
    label: int | None
    """Class id; None when `state` is `conflict`."""
    state: Literal["labelled", "conflict"]
    split: Literal["train", "valid", "test"]
    group: str
    """Sha256 of the group's first member; its own when it is alone."""
    fold: int
    """0..59."""


def manifest_digest(classes: Iterable[ClassEntry], rows: Iterable[ManifestRow]) -> str:
    """Return the sha256 (hex) of the canonical line encoding.

    Lines end in a newline and their fields are parted by tabs: first `bearloop-manifest 1`, then
    `class`, id, name per class in order, then `image`, sha256, label (`-` for none), state, split,
    group, fold per image sorted by sha256. A name's tab, newline and backslash are escaped.
    """
    digest = hashlib.sha256(b"bearloop-manifest 1\n")
    for entry in sorted(classes, key=lambda entry: entry.position):
        digest.update(f"class\t{entry.id}\t{_escaped(entry.name)}\n".encode())
    for row in sorted(rows, key=lambda row: row.sha256):
        label = "-" if row.label is None else str(row.label)
        line = f"image\t{row.sha256}\t{label}\t{row.state}\t{row.split}\t{row.group}\t{row.fold}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
