"""An import that several pods share: each takes neighbouring lines; the last one joins all parts.

A part is created once and never changed, so a pod that runs twice does no harm, and one that dies
costs its own part only. Parts are named by what the source listed: pods that saw different lists
(a folder that grew meanwhile) never join theirs, and the job is launched anew.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bearloop.contract.imports import LedgerLine
from bearloop.contract.jobs import parts_prefix
from bearloop.contract.record import Record
from bearloop.ledger_file import ledger_batches
from bearloop.store import Store
from importer.ledger import Ledger
from importer.sources import SourceLine


@dataclass(frozen=True)
class Shard:
    """Which of how many pods this is."""

    index: int = 0
    count: int = 1

    def taken(self, lines: Sequence[SourceLine]) -> Sequence[SourceLine]:
        """Return this pod's lines: neighbours, so that parts join in source order."""
        start = len(lines) * self.index // self.count
        return lines[start : len(lines) * (self.index + 1) // self.count]


class Part(Record):
    """One pod's share, done."""

    ledger_key: str
    """Parquet file of its lines."""


class Parts:
    """The parts of one import over one list of lines."""

    def __init__(self, store: Store, *, job: str, count: int, lines: Sequence[SourceLine]) -> None:
        """Stand for `count` parts of these lines."""
        self._store = store
        self._count = count
        self._prefix = f"{parts_prefix(job)}{_digest(lines)}-{count}/"

    def has(self, index: int) -> bool:
        """Tell whether a part is done."""
        return self._store.exists(self._key(index))

    def add(self, index: int, part: Part) -> None:
        """Create a part; the first one stays."""
        self._store.put_new(self._key(index), part.canonical())

    def joined(self, path: Path) -> Ledger | None:
        """Write all parts into one ledger, in source order; None while one is not done.

        What two parts both brought is a duplicate in the later one.
        """
        if not all(self.has(index) for index in range(self._count)):
            return None
        with Ledger(path) as ledger:
            for index in range(self._count):
                for line in self._lines(index, path.with_name(f"part-{index}.parquet")):
                    ledger.add(line)
        return ledger

    def _lines(self, index: int, path: Path) -> Iterator[LedgerLine]:
        part = Part.model_validate_json(self._store.get(self._key(index)))
        self._store.download(part.ledger_key, path)
        # Row group by row group: a million lines are no small list.
        for batch in ledger_batches(path):
            yield from batch

    def _key(self, index: int) -> str:
        return f"{self._prefix}{index:04d}.json"


def _digest(lines: Sequence[SourceLine]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        said = f"{line.position}\0{line.location}\0{line.class_name}\0{line.split}\n"
        digest.update(said.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]
