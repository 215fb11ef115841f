"""The ledger: one line for each source, in source order, with what became of it."""

from pathlib import Path
from types import TracebackType
from typing import Self

from bearloop.contract.imports import ImportOutput, LedgerLine
from bearloop.fetch import MAX_URL
from bearloop.ledger_file import LedgerWriter
from importer.problems import Refusal
from importer.sources import SourceLine, printable
from importer.verify import Verified


class Ledger:
    """A context manager that writes the lines to a file and counts them."""

    def __init__(self, path: Path) -> None:
        self._writer = LedgerWriter(path)
        # 32 bytes each, not 64 characters: a million images stay under 100 MB.
        self._seen: set[bytes] = set()
        self._counts = {"stored": 0, "duplicate": 0, "refused": 0}

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def add(self, line: LedgerLine) -> None:
        """Append a line; bytes that an earlier line brought make it a `duplicate`."""
        if line.sha256 is not None and line.status == "stored":
            digest = bytes.fromhex(line.sha256)
            if digest in self._seen:
                line = line.model_copy(update={"status": "duplicate"})
            self._seen.add(digest)
        self._counts[line.status] += 1
        self._writer.add(line)

    @property
    def lines(self) -> int:
        """How many lines were added."""
        return sum(self._counts.values())

    def output(self, ledger_key: str) -> ImportOutput:
        """Return the counts so far, and where the file will lie."""
        return ImportOutput(
            ledger_key=ledger_key,
            stored=self._counts["stored"],
            duplicates=self._counts["duplicate"],
            refused=self._counts["refused"],
        )


def stored_line(
    source: SourceLine, verified: Verified, *, size: int, content_type: str | None
) -> LedgerLine:
    """Describe a picture that was taken; `size` in bytes."""
    return LedgerLine(
        position=source.position,
        location=printable(source.location),
        class_name=source.class_name,
        split=source.split,
        status="stored",
        sha256=verified.sha256,
        bytes=size,
        width=verified.width,
        height=verified.height,
        format=verified.format,
        content_type=None if content_type is None else printable(content_type),
        perceptual_hash=verified.perceptual_hash,
    )


def refused_line(
    source: SourceLine,
    refusal: Refusal,
    *,
    size: int | None = None,
    content_type: str | None = None,
) -> LedgerLine:
    """Describe a source that was not taken; `size` in bytes, where they were read."""
    return LedgerLine(
        position=source.position,
        location=_shortened(printable(source.location)),
        class_name=source.class_name,
        split=source.split,
        status="refused",
        code=refusal.code,
        detail=printable(refusal.detail),
        bytes=size,
        content_type=None if content_type is None else printable(content_type),
    )


def repeated_line(source: SourceLine, first: LedgerLine) -> LedgerLine:
    """Describe a source whose very address or file an earlier line already took."""
    return first.model_copy(
        update={
            "position": source.position,
            "class_name": source.class_name,
            "split": source.split,
        }
    )


def _shortened(location: str) -> str:
    # Lists from image searches hold whole pictures as `data:` addresses.
    return location if len(location) <= MAX_URL else location[:200] + "…"
