"""What changed between two versions, image by image."""

from collections.abc import Iterable
from typing import NamedTuple

from bearloop.contract.manifest import ManifestRow


class Relabelled(NamedTuple):
    """An image whose label differs; None stands for a conflict."""

    sha256: str
    old: int | None
    new: int | None


class Moved(NamedTuple):
    """An image whose split differs."""

    sha256: str
    old: str
    new: str


class Diff(NamedTuple):
    """The difference, each part sorted by sha256."""

    added: list[str]
    removed: list[str]
    relabelled: list[Relabelled]
    moved: list[Moved]


def diff(old_rows: Iterable[ManifestRow], new_rows: Iterable[ManifestRow]) -> Diff:
    """Compare two versions' rows."""
    old = {row.sha256: row for row in old_rows}
    new = {row.sha256: row for row in new_rows}
    both = sorted(old.keys() & new.keys())
    pairs = [(old[sha], new[sha]) for sha in both]
    return Diff(
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        relabelled=[Relabelled(a.sha256, a.label, b.label) for a, b in pairs if a.label != b.label],
        moved=[Moved(a.sha256, a.split, b.split) for a, b in pairs if a.split != b.split],
    )
