"""An endpoint's answers as CSV: each row as soon as it is there, so that none is lost."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any


def write_answers(file: IO[str], answers: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Write file, class, confidence, a column a class, error; return how many rows, and refused.

    The first picture that is classified names the classes: refused ones before it wait.
    """
    writer = csv.writer(file)
    names: list[str] | None = None
    waiting: list[Mapping[str, Any]] = []
    rows = refused = 0
    for answer in answers:
        rows += 1
        refused += "error" in answer
        if names is None and "predictions" not in answer:
            waiting.append(answer)
            continue
        if names is None:
            names = sorted(one["class"] for one in answer["predictions"])
            _begin(writer, names, waiting)
        writer.writerow(_row(answer, names))
    if names is None:
        _begin(writer, [], waiting)
    return rows, refused


def _begin(writer: Any, names: Sequence[str], waiting: Iterable[Mapping[str, Any]]) -> None:
    writer.writerow(["file", "class", "confidence", *names, "error"])
    writer.writerows(_row(answer, names) for answer in waiting)


def _row(answer: Mapping[str, Any], names: Sequence[str]) -> list[object]:
    shares = {one["class"]: one["probability"] for one in answer.get("predictions", [])}
    top = [answer.get("class", ""), answer.get("confidence", "")]
    return [
        answer["file"],
        *top,
        *(shares.get(name, "") for name in names),
        answer.get("error", ""),
    ]
