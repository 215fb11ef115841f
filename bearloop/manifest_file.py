"""The Parquet file that carries a version's manifest: written by the API, read by the trainer."""

import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from bearloop.contract.manifest import ManifestRow

SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("state", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("fold", pa.int8(), nullable=False),
    ]
)


def write_manifest(rows: Iterable[ManifestRow]) -> bytes:
    """Encode the rows, sorted by sha256, as one Parquet file."""
    ordered = sorted(rows, key=lambda row: row.sha256)
    columns = {name: [getattr(row, name) for row in ordered] for name in SCHEMA.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def read_manifest(data: bytes) -> list[ManifestRow]:
    """Decode what `write_manifest` wrote, in sha256 order."""
    table = pq.read_table(io.BytesIO(data), schema=SCHEMA)
    # Column by column: no dictionary per row.
    columns = (table.column(name).to_pylist() for name in ManifestRow._fields)
    return [ManifestRow(*row) for row in zip(*columns, strict=True)]
