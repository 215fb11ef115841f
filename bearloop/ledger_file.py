"""The Parquet file of an import's ledger: written by the importer, read by the API in batches."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from bearloop.contract.imports import LedgerLine

BATCH: Final = 5000
"""Lines a row group; what a reader holds at once."""
SCHEMA: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("location", pa.string(), nullable=False),
        pa.field("class_name", pa.string()),
        pa.field("split", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("code", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("content_type", pa.string()),
        pa.field("perceptual_hash", pa.int64()),
    ]
)


class LedgerWriter:
    """A context manager that writes lines, in the order given, to a file on disk."""

    def __init__(self, target: Path | io.BytesIO) -> None:
        self._target = target
        self._lines: list[LedgerLine] = []

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._target, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def add(self, line: LedgerLine) -> None:
        """Append one line."""
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = {name: [getattr(line, name) for line in self._lines] for name in SCHEMA.names}
        self._writer.write_table(pa.table(columns, schema=SCHEMA))
        self._lines.clear()


def write_ledger(lines: Iterable[LedgerLine]) -> bytes:
    """Encode the lines, in the order given, as one Parquet file."""
    buffer = io.BytesIO()
    with LedgerWriter(buffer) as writer:
        for line in lines:
            writer.add(line)
    return buffer.getvalue()


def read_ledger(data: bytes) -> list[LedgerLine]:
    """Decode a whole ledger, in source order."""
    return [line for batch in ledger_batches(data) for line in batch]


def ledger_batches(source: bytes | Path, *, size: int = BATCH) -> Iterator[list[LedgerLine]]:
    """Yield the lines of a ledger, `size` at a time, in source order."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(opened) as file:
        for batch in file.iter_batches(batch_size=size, columns=SCHEMA.names):
            yield [LedgerLine(**row) for row in batch.to_pylist()]
