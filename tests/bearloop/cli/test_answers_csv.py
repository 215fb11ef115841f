"""Answers as CSV, whatever becomes of those behind them."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from bearloop.cli.answers_csv import write_answers


def answer(file: str, black: float) -> dict[str, Any]:
    shares = [("teddy", 1 - black), ("black", black)]
    predictions = [{"class": name, "probability": share} for name, share in shares]
    best = max(shares, key=lambda pair: pair[1])
    return {"file": file, "class": best[0], "confidence": best[1], "predictions": predictions}


def test_refused_pictures_keep_their_place_before_and_behind_the_first_that_is_classified() -> None:
    refused = [{"file": name, "error": "truncated"} for name in ("a.jpg", "c.jpg")]
    file = io.StringIO()
    assert write_answers(file, [refused[0], answer("b.jpg", 0.75), refused[1]]) == (3, 2)
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [
        ["file", "class", "confidence", "black", "teddy", "error"],
        ["a.jpg", "", "", "", "", "truncated"],
        ["b.jpg", "black", "0.75", "0.75", "0.25", ""],
        ["c.jpg", "", "", "", "", "truncated"],
    ]


def test_where_all_are_refused_each_is_told() -> None:
    file = io.StringIO()
    assert write_answers(file, [{"file": "a.jpg", "error": "truncated"}]) == (1, 1)
    assert file.getvalue().splitlines() == ["file,class,confidence,error", "a.jpg,,,truncated"]


def test_what_was_answered_is_written_when_the_endpoint_goes_away() -> None:
    def answers() -> Iterator[dict[str, Any]]:
        yield answer("a.jpg", 0.9)
        raise ConnectionError

    file = io.StringIO()
    with pytest.raises(ConnectionError):
        write_answers(file, answers())
    assert [row["file"] for row in csv.DictReader(io.StringIO(file.getvalue()))] == ["a.jpg"]
