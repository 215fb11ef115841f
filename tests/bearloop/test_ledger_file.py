"""The ledger's file: what goes in comes out, in order, in batches."""

from pathlib import Path

from bearloop.contract.imports import LedgerLine
from bearloop.ledger_file import BATCH, LedgerWriter, ledger_batches, read_ledger, write_ledger


def line(position: int) -> LedgerLine:
    return LedgerLine(
        position=position,
        location=f"bär/{position}.jpg",
        class_name="bär",
        split="valid",
        status="stored",
        sha256=f"{position:064x}",
        bytes=7,
        width=3,
        height=2,
        format="JPEG",
        perceptual_hash=-(2**63) + position,
    )


REFUSED = LedgerLine(
    position=3, location="x", class_name=None, split=None, status="refused", code="c", detail="d"
)


def test_lines_come_back_as_they_went_in() -> None:
    lines = [line(0), line(1), REFUSED]
    assert read_ledger(write_ledger(lines)) == lines


def test_an_empty_ledger_is_a_ledger() -> None:
    assert read_ledger(write_ledger([])) == []


def test_a_long_ledger_is_written_and_read_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    with LedgerWriter(path) as writer:
        for position in range(BATCH + 10):
            writer.add(line(position))
    batches = list(ledger_batches(path, size=1000))
    assert [len(batch) for batch in batches] == [1000] * 5 + [10]
    assert [row.position for batch in batches for row in batch] == list(range(BATCH + 10))
