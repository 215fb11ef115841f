"""The CSV of labels: what is read, and how it is joined with the files."""

import pytest

from bearloop.contract.imports import Labels
from importer.labels import Claim, labelled_lines, read_labels
from importer.problems import SourceError
from importer.sources import Entry

LABELS = Labels(path="labels.csv")


def test_windows_paths_and_a_bom_are_read() -> None:
    data = "\ufeffname,label\r\nblack\\00000000.jpg,black\r\n".encode()
    assert read_labels(data, LABELS) == [Claim("black/00000000.jpg", "black", None)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_comma_semicolon_and_tab_separate(delimiter: str) -> None:
    text = delimiter.join(("id", "breed", "set")) + "\n" + delimiter.join(('"1"', "pug", "val"))
    labels = Labels(
        path="l.csv", file_column="id", label_column="breed", split_column="set", suffix=".jpg"
    )
    assert read_labels(text.encode(), labels) == [Claim("1.jpg", "pug", "val")]


def test_a_missing_column_is_named_with_those_there_and_the_way_out() -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(b"file;label\na;b\n", LABELS)
    problem = caught.value.problem
    assert (problem.code, problem.field, problem.value) == (
        "missing_column",
        "labels.file_column",
        "name",
    )
    assert "file, label" in problem.detail
    assert problem.way_out is not None
    assert "labels.file_column" in problem.way_out


def test_a_missing_split_column_is_named_too() -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(b"name,label\n", Labels(path="l.csv", split_column="fold"))
    assert caught.value.problem.field == "labels.split_column"


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_csv_has_no_columns(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(data, LABELS)
    assert caught.value.problem.code == "missing_column"


@pytest.mark.parametrize("data", [b"name,label\n\xff\xfe,x\n", b"name,label\na," + b"x" * 200_000])
def test_what_is_no_csv_in_utf8_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(data, LABELS)
    assert caught.value.problem.code == "bad_labels"


def test_rows_and_files_are_joined_in_the_order_of_the_rows() -> None:
    files = [Entry("a.jpg", 0), Entry("x/b.jpg", 1), Entry("unnamed.jpg", 2), Entry("b.jpg", 3)]
    claims = [
        Claim("x/b.jpg", "bear", "validation"),
        Claim("gone.jpg", "bear", None),
        Claim("a.jpg", None, None),
        Claim("a.jpg", "wolf", None),
        Claim("a.jpg", "bear", "nowhere"),
    ]
    lines = labelled_lines(files, claims, Labels(path="labels.csv"))
    assert [
        (line.position, line.entry, line.class_name, line.split, line.refusal and line.refusal.code)
        for line in lines
    ] == [
        (0, 1, "bear", "valid", None),
        (1, None, "bear", None, "unknown_file"),
        (2, 0, None, None, "no_label"),
        (3, 0, "wolf", None, None),
        (4, 0, "bear", None, "unknown_split"),
    ]


def test_names_may_be_relative_to_the_csvs_own_folder() -> None:
    files = [Entry("set/1.jpg", 0), Entry("2.jpg", 1), Entry("set/2.jpg", 2)]
    claims = [Claim("1.jpg", "a", None), Claim("2.jpg", "b", None)]
    lines = labelled_lines(files, claims, Labels(path="set/labels.csv"))
    assert [line.entry for line in lines] == [0, 1]


def test_accents_apart_from_their_letters_are_the_same_name() -> None:
    apart, together = "bra\u0308un/ba\u0308r.jpg", "br\u00e4un/b\u00e4r.jpg"
    for path, name in ((apart, together), (together, apart)):
        (line,) = labelled_lines([Entry(path, 0)], [Claim(name, "bear", None)], LABELS)
        assert (line.location, line.refusal) == (path, None)
    both = [Entry(apart, 0), Entry(together, 1)]
    (line,) = labelled_lines(both, [Claim(together, "bear", None)], LABELS)
    assert line.entry == 1
