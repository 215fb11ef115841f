"""The digest that names a version: golden values, because every installation must agree on it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearloop.contract.manifest import ManifestRow, manifest_digest
from bearloop.contract.record import ClassEntry
from bearloop.manifest_file import read_manifest, write_manifest

CLASSES = [
    ClassEntry(id=7, name="black", position=0),
    ClassEntry(id=3, name="grizz\tly\\\n", position=1),
]
A, B, C = "a" * 64, "b" * 64, "c" * 64
ROWS = [
    ManifestRow(A, 7, "labelled", "train", A, 0),
    ManifestRow(B, None, "conflict", "valid", B, 59),
    ManifestRow(C, 3, "labelled", "test", A, 12),
]
GOLDEN = "8f7e9543928f634c3e750229162085e7ed61222fc8348e01fe342d6b3f4b3d13"
GOLDEN_EMPTY = "2ce331ba9d3be8b499e4c9efc8693ec8a407d2d7fdad353aef0f19b9c2511c29"


def test_the_digest_of_a_known_manifest_is_known() -> None:
    assert manifest_digest(CLASSES, ROWS) == GOLDEN
    assert manifest_digest([], []) == GOLDEN_EMPTY


@given(st.permutations(ROWS), st.permutations(CLASSES))
def test_the_order_of_rows_and_classes_does_not_matter(
    rows: list[ManifestRow], classes: list[ClassEntry]
) -> None:
    assert manifest_digest(classes, rows) == GOLDEN


CHANGED = [
    ROWS[0]._replace(label=3),
    ROWS[0]._replace(split="valid"),
    ROWS[0]._replace(group=B),
    ROWS[0]._replace(fold=1),
    ROWS[0]._replace(sha256="d" * 64),
    ROWS[0]._replace(label=None, state="conflict"),
]


@pytest.mark.parametrize("row", CHANGED)
def test_every_field_counts(row: ManifestRow) -> None:
    assert manifest_digest(CLASSES, [row, *ROWS[1:]]) != GOLDEN


def test_names_and_the_order_of_classes_count() -> None:
    renamed = [CLASSES[0], ClassEntry(id=3, name="grizzly", position=1)]
    swapped = [entry.model_copy(update={"position": 1 - entry.position}) for entry in CLASSES]
    digests = {manifest_digest(classes, ROWS) for classes in (CLASSES, renamed, swapped)}
    assert len(digests) == 3


def test_the_file_carries_every_row_in_sha256_order() -> None:
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    read = read_manifest(write_manifest(shuffled))
    assert read == ROWS
    assert all(type(row) is ManifestRow for row in read)
    assert read_manifest(write_manifest([])) == []
