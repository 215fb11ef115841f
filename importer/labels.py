"""A CSV file of labels: its rows, and the lines that they make of a folder or a zip."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from unicodedata import normalize

from bearloop.contract.imports import SPLIT_FOLDERS, Labels
from bearloop.contract.jobs import Problem
from importer.problems import Refusal, SourceError
from importer.sources import Entry, SourceLine, Split, class_name

DELIMITERS: Final = (",", ";", "\t")


class Claim(NamedTuple):
    """One row: this file has this label."""

    name: str
    """As the CSV writes it, suffix added, `/` for `\\`."""
    label: str | None
    split: str | None
    """As the CSV writes it; None without a split column or with an empty field."""


def read_labels(data: bytes, labels: Labels) -> list[Claim]:
    """Parse the CSV: UTF-8 with or without BOM; comma, semicolon or tab; raises SourceError."""
    text = _decoded(data, labels)
    delimiter = _delimiter(text, labels)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [_claim(row, labels) for row in rows]
    except csv.Error as error:
        raise _bad_csv(labels, f"line {rows.line_num}: {error}") from error


def labelled_lines(
    entries: Sequence[Entry], claims: Sequence[Claim], labels: Labels
) -> list[SourceLine]:
    """Join rows and files, in the CSV's order; files that no row names are left out."""
    by_path: dict[str, list[Entry]] = defaultdict(list)
    composed: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_path[entry.path].append(entry)
        composed[normalize("NFC", entry.path)].append(entry)
    folder = labels.path.replace("\\", "/").removeprefix("./").rpartition("/")[0]
    lines: list[SourceLine] = []
    for claim in claims:
        # Relative to the root, or to the CSV's own folder.
        beside = f"{folder}/{claim.name}" if folder else claim.name
        found = by_path.get(claim.name) or by_path.get(beside)
        # macOS may write a file's accents apart from their letters, and a CSV together.
        found = found or composed.get(normalize("NFC", claim.name))
        found = found or composed.get(normalize("NFC", beside)) or []
        lines.extend(_lines(claim, found, first=len(lines)))
    return lines


def _decoded(data: bytes, labels: Labels) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad_csv(
            labels, f"it is not UTF-8 (byte {error.start}); save it as `CSV UTF-8`"
        ) from error


def _delimiter(text: str, labels: Labels) -> str:
    wanted = {
        "labels.file_column": labels.file_column,
        "labels.label_column": labels.label_column,
    }
    if labels.split_column is not None:
        wanted["labels.split_column"] = labels.split_column
    heads = {delimiter: _head(text, delimiter) for delimiter in DELIMITERS}
    for delimiter, columns in heads.items():
        if set(wanted.values()) <= set(columns):
            return delimiter
    columns = max(heads.values(), key=len)
    field, value = next(pair for pair in wanted.items() if pair[1] not in columns)
    raise SourceError(
        Problem(
            code="missing_column",
            detail=f"{labels.path} has no column {value!r}; it has {', '.join(columns) or 'none'}",
            field=field,
            value=value,
            way_out=f"set `{field}` to one of these columns",
        )
    )


def _head(text: str, delimiter: str) -> list[str]:
    rows = csv.reader(io.StringIO(text[: 1 << 20], newline=""), delimiter=delimiter)
    try:
        return [column.strip() for column in next(rows, [])]
    except csv.Error:
        return []


def _claim(row: dict[str | None, str | None], labels: Labels) -> Claim:
    fields = {(key or "").strip(): (value or "") for key, value in row.items() if key is not None}
    name = fields[labels.file_column].strip().replace("\\", "/").removeprefix("./")
    split = fields[labels.split_column].strip() if labels.split_column else ""
    return Claim(name + labels.suffix, class_name(fields[labels.label_column]), split or None)


def _lines(claim: Claim, found: Sequence[Entry], *, first: int) -> Iterator[SourceLine]:
    split, refusal = _split(claim)
    if claim.label is None:
        refusal = Refusal("no_label", "the label column is empty; fill it or drop the row")
    if not found:
        unknown = Refusal("unknown_file", f"no file {claim.name!r} in the source")
        yield SourceLine(first, claim.name, claim.label, split, refusal=unknown)
    for offset, entry in enumerate(found):
        yield SourceLine(
            first + offset,
            entry.path,
            claim.label,
            split,
            entry=entry.number,
            refusal=entry.refusal or refusal,
        )


def _split(claim: Claim) -> tuple[Split | None, Refusal | None]:
    if claim.split is None:
        return None, None
    split = SPLIT_FOLDERS.get(claim.split.lower())
    if split is None:
        known = ", ".join(SPLIT_FOLDERS)
        return None, Refusal("unknown_split", f"split {claim.split!r} is none of {known}")
    return split, None


def _bad_csv(labels: Labels, why: str) -> SourceError:
    return SourceError(
        Problem(
            code="bad_labels",
            detail=f"{labels.path} is no CSV file that we can read: {why}",
            field="labels.path",
            value=labels.path,
            way_out="save it again as CSV in UTF-8",
        )
    )
