"""A report is read page by page, each by one range read, and says what was written."""

import math
from pathlib import Path

import numpy as np
import pytest

from bearloop import report_file
from bearloop.contract.report import ReportRow
from bearloop.report_file import count_rows, iter_rows, read_all, read_page, write_report
from bearloop.store import FolderStore, MissingObjectError


class CountingStore(FolderStore):
    """A folder store that remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ranges: list[int] = []

    def get(self, key: str) -> bytes:
        raise AssertionError(f"{key} was read whole")

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        self.ranges.append(length)
        return super().get_range(key, start=start, length=length)


def row(rank: int) -> ReportRow:
    conflict = rank % 7 == 0
    p = float(np.float32(1 / (rank + 2)))
    return ReportRow(
        sha256=f"{rank:064x}",
        split="valid",
        label=None if conflict else 3,
        rank=rank,
        predicted=4,
        confidence=p,
        p_label=None if conflict else p,
        loss=None if conflict else float(np.float32(-math.log(p))),
        top_classes=(4, 3),
        top_probabilities=(p, p),
        tta_predicted=None,
        tta_p_label=None,
        oof_predicted=3,
        oof_p_label=None if conflict else p,
        oof_confidence=p,
        label_issue=p,
    )


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(tmp_path)
    store.put("report.parquet", write_report(row(rank) for rank in range(3500)))
    return store


def test_all_rows_come_back_as_they_were_written(store: CountingStore) -> None:
    assert read_all(store, "report.parquet") == [row(rank) for rank in range(3500)]
    assert count_rows(store, "report.parquet") == 3500


@pytest.mark.parametrize(
    ("start", "count", "ranks"),
    [
        (0, 50, range(50)),
        (990, 20, range(990, 1010)),
        (3490, 50, range(3490, 3500)),
        (3500, 10, range(0)),
        (9999, 10, range(0)),
        (20, 0, range(0)),
    ],
)
def test_a_page_holds_the_ranks_asked_for(
    store: CountingStore, start: int, count: int, ranks: range
) -> None:
    page = read_page(store, "report.parquet", start=start, count=count)
    assert page == [row(rank) for rank in ranks]


def test_a_page_is_one_range_read_of_a_small_part(store: CountingStore) -> None:
    read_page(store, "report.parquet", start=0, count=10)
    store.ranges.clear()
    # Another view of the same place: the footer is known by address, not by object.
    again = CountingStore(store.folder)
    read_page(again, "report.parquet", start=2010, count=50)
    assert len(again.ranges) == 1
    assert again.ranges[0] < store.size("report.parquet") / 3


def test_a_footer_longer_than_the_first_read_is_still_read(tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    count = 60 * report_file.ROW_GROUP
    store.put("long.parquet", write_report(row(rank) for rank in range(count)))
    assert read_page(store, "long.parquet", start=count - 1, count=9) == [row(count - 1)]
    assert max(store.ranges) > report_file.TAIL


def test_rows_are_streamed_without_reading_the_file_whole(store: CountingStore) -> None:
    rows = iter_rows(store, "report.parquet", groups=1)
    assert next(rows) == row(0)
    assert sum(store.ranges) < 0.6 * store.size("report.parquet") + report_file.TAIL


def test_an_empty_report_has_no_pages(tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    store.put("empty.parquet", write_report([]))
    assert read_page(store, "empty.parquet", start=0, count=10) == []
    assert read_all(store, "empty.parquet") == []


def test_a_missing_report_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="no object"):
        read_page(CountingStore(tmp_path), "none.parquet", start=0, count=10)
