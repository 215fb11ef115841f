"""The Parquet files of a run's report: the trainer writes them, the API reads pages by range."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from bearloop.contract.report import ReportRow, SplitName
from bearloop.store import Store

ROW_GROUP: Final = 1000
"""Rows that are read together: a page of the API lies in one or two groups."""
TAIL: Final = 64 * 1024
"""Bytes fetched from the end at first; the footer of about 30,000 rows fits in."""
FOOTERS: Final = 32
"""Footers kept in memory."""

SCHEMA: Final = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("predicted", pa.int64(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("p_label", pa.float32()),
        pa.field("loss", pa.float32()),
        pa.field("top_classes", pa.list_(pa.int64()), nullable=False),
        pa.field("top_probabilities", pa.list_(pa.float32()), nullable=False),
        pa.field("tta_predicted", pa.int64()),
        pa.field("tta_p_label", pa.float32()),
        pa.field("oof_predicted", pa.int64(), nullable=False),
        pa.field("oof_p_label", pa.float32()),
        pa.field("oof_confidence", pa.float32(), nullable=False),
        pa.field("label_issue", pa.float32(), nullable=False),
    ]
)


def write_report(rows: Iterable[ReportRow]) -> bytes:
    """Encode the rows, in the order given, as one Parquet file; figures are kept as float32."""
    buffer = io.BytesIO()
    source = iter(rows)
    with pq.ParquetWriter(buffer, SCHEMA, compression="zstd") as writer:
        while group := list(islice(source, ROW_GROUP)):
            columns = {name: [getattr(row, name) for row in group] for name in SCHEMA.names}
            writer.write_table(pa.table(columns, schema=SCHEMA))
    return buffer.getvalue()


def read_page(store: Store, key: str, *, start: int, count: int) -> list[ReportRow]:
    """Return the rows of rank `start` to `start + count`, fewer at the end, by one range read.

    The footer is read once and kept; this is sound because a report's key is never rewritten.
    """
    place = _Place(store.url, key, store)
    total = _footer(place).num_rows
    stop = min(start + count, total)
    if start >= stop:
        return []
    first, last = start // ROW_GROUP, (stop - 1) // ROW_GROUP
    rows = _read_groups(place, first, last)
    offset = first * ROW_GROUP
    return rows[start - offset : stop - offset]


def read_split_page(
    store: Store, key: str, *, split: SplitName, start: int, count: int
) -> list[ReportRow]:
    """Return `count` rows of one split from rank `start` on, fewer at the end.

    Groups that hold no row of the split are skipped by the footer's statistics: in the order of
    loss, where splits follow each other, that is one jump.
    """
    place = _Place(store.url, key, store)
    footer = _footer(place)
    found: list[ReportRow] = []
    for group in range(start // ROW_GROUP, footer.num_row_groups):
        if _may_hold(footer.row_group(group), split):
            rows = _read_groups(place, group, group)
            found += [row for row in rows if row.split == split and row.rank >= start]
        if len(found) >= count:
            break
    return found[:count]


def read_columns(store: Store, key: str, names: Sequence[str], *, groups: int = 100) -> pa.Table:
    """Return whole columns in rank order, for figures over all images; 24 bytes a row, not 500."""
    place = _Place(store.url, key, store)
    total = _footer(place).num_row_groups
    parts = [
        _read_table(place, first, min(first + groups, total) - 1, names=names)
        for first in range(0, total, groups)
    ]
    empty = SCHEMA.empty_table().select(list(names))
    return pa.concat_tables([empty, *parts])


def count_rows(store: Store, key: str) -> int:
    """Return the number of rows; reads the footer only."""
    return int(_footer(_Place(store.url, key, store)).num_rows)


def iter_rows(store: Store, key: str, *, groups: int = 10) -> Iterator[ReportRow]:
    """Yield every row in rank order, holding `groups` row groups in memory at a time."""
    place = _Place(store.url, key, store)
    total = _footer(place).num_row_groups
    for first in range(0, total, groups):
        yield from _read_groups(place, first, min(first + groups, total) - 1)


def read_all(store: Store, key: str) -> list[ReportRow]:
    """Return every row in rank order."""
    return list(iter_rows(store, key))


@dataclass(frozen=True)
class _Place:
    """Where a report lies; two places are equal when they name the same object."""

    url: str
    key: str
    store: Store = field(compare=False)


class _RangeFile(io.RawIOBase):
    """A seekable file over range reads; one window of it is fetched ahead."""

    def __init__(self, place: _Place, *, size: int, start: int, length: int) -> None:
        self._place = place
        self._size = size
        self._start = start
        self._window = place.store.get_range(place.key, start=start, length=length)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def read(self, length: int = -1, /) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if length < 0 else min(length, left)
        if wanted == 0:
            return b""
        data = self._fetch(wanted)
        self._position += len(data)
        return data

    def _fetch(self, length: int) -> bytes:
        inside = self._position - self._start
        if inside >= 0 and inside + length <= len(self._window):
            return self._window[inside : inside + length]
        return self._place.store.get_range(self._place.key, start=self._position, length=length)


@lru_cache(maxsize=FOOTERS)
def _footer(place: _Place) -> pq.FileMetaData:
    size = place.store.size(place.key)
    tail = min(size, TAIL)
    return pq.read_metadata(_RangeFile(place, size=size, start=size - tail, length=tail))


def _read_groups(place: _Place, first: int, last: int) -> list[ReportRow]:
    return [ReportRow.model_validate(row) for row in _read_table(place, first, last).to_pylist()]


def _read_table(
    place: _Place, first: int, last: int, *, names: Sequence[str] | None = None
) -> pa.Table:
    footer = _footer(place)
    groups = range(first, last + 1)
    chunks = [
        footer.row_group(group).column(column)
        for group in groups
        for column in range(footer.num_columns)
    ]
    # The groups lie side by side in the file: one request brings all their columns.
    start = min(_chunk_start(chunk) for chunk in chunks)
    stop = max(_chunk_start(chunk) + chunk.total_compressed_size for chunk in chunks)
    source = _RangeFile(place, size=stop, start=start, length=stop - start)
    # Threads would share one position in the file.
    file = pq.ParquetFile(source, metadata=footer, pre_buffer=False)
    columns = None if names is None else list(names)
    return file.read_row_groups(list(groups), columns=columns, use_threads=False)


def _may_hold(group: pq.RowGroupMetaData, split: str) -> bool:
    statistics = group.column(SCHEMA.get_field_index("split")).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= split <= statistics.max)


def _chunk_start(chunk: pq.ColumnChunkMetaData) -> int:
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        return int(min(chunk.dictionary_page_offset, chunk.data_page_offset))
    return int(chunk.data_page_offset)
