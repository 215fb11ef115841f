"""Labelled pictures of a folder, dealt into folds: what both sides of a comparison learn from."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = {".jpg", ".jpeg", ".png"}
FOLDS = 5


class Picture(NamedTuple):
    """One photograph with one label."""

    path: Path
    label: str
    sha256: str
    fold: int
    """0..4. Where fold s is held out by seed s, five seeds measure every picture once."""


def labelled(folder: Path) -> list[Picture]:
    """Return a folder's pictures in the order of their digests.

    A class is a folder, or, where there are none, what a file's name says before its number
    (`british_shorthair_12.jpg`). Bytes that lie under two labels are left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    claims: dict[str, set[str]] = defaultdict(set)
    firsts: dict[str, Path] = {}
    for path in paths:
        label = path.stem.rsplit("_", 1)[0] if path.parent == folder else path.parent.name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        claims[digest].add(label)
        firsts.setdefault(digest, path)
    dealt: dict[str, int] = defaultdict(int)
    pictures = []
    for digest in sorted(digest for digest, labels in claims.items() if len(labels) == 1):
        (label,) = claims[digest]
        pictures.append(Picture(firsts[digest], label, digest, dealt[label] % FOLDS))
        dealt[label] += 1
    return pictures


def write_plan(pictures: Sequence[Picture], file: Path, *, fold: int) -> None:
    """Write what the peer is told: paths, labels, and which are held out."""
    rows = [[str(one.path), one.label, one.fold == fold] for one in pictures]
    file.write_text(json.dumps(rows))
