"""What a source holds, decided from names alone."""

import unicodedata

from bearloop.contract.imports import UrlSource
from importer.problems import Refusal
from importer.sources import Entry, SourceLine, folder_lines, unwrapped, url_lines, visible


def entries(*paths: str) -> list[Entry]:
    return [Entry(path, number) for number, path in enumerate(paths)]


def classes(lines: list[SourceLine]) -> dict[str, tuple[str | None, str | None]]:
    return {line.location: (line.split, line.class_name) for line in lines}


def test_the_first_folder_is_the_class_however_deep_a_picture_lies() -> None:
    lines = folder_lines(entries("black/a.jpg", "black/2019/june/b.jpg", "teddys/c.jpg"))
    assert classes(lines) == {
        "black/a.jpg": (None, "black"),
        "black/2019/june/b.jpg": (None, "black"),
        "teddys/c.jpg": (None, "teddys"),
    }
    assert [line.position for line in lines] == [0, 1, 2]


def test_split_folders_above_the_classes_are_honoured() -> None:
    paths = ("train/a/1", "valid/a/2", "val/a/3", "Validation/b/4", "test/b/5", "c/6")
    assert list(classes(folder_lines(entries(*paths))).values()) == [
        ("train", "a"),
        ("valid", "a"),
        ("valid", "a"),
        ("valid", "b"),
        ("test", "b"),
        (None, "c"),
    ]


def test_a_class_of_trains_is_a_class() -> None:
    assert classes(folder_lines(entries("train/1.jpg", "bus/2.jpg"))) == {
        "train/1.jpg": (None, "train"),
        "bus/2.jpg": (None, "bus"),
    }


def test_a_picture_in_no_class_is_named_and_other_files_there_are_passed_over() -> None:
    lines = folder_lines(entries("stray.JPG", "readme.txt", "train/stray.png", "train/a/1.jpg"))
    assert [(line.location, line.refusal and line.refusal.code) for line in lines] == [
        ("stray.JPG", "no_class"),
        ("train/stray.png", "no_class"),
        ("train/a/1.jpg", None),
    ]


def test_what_operating_systems_leave_behind_is_passed_over() -> None:
    left = visible(
        entries(
            ".DS_Store",
            "a/.DS_Store",
            "a/._1.jpg",
            "__MACOSX/a/1.jpg",
            "a/Thumbs.db",
            ".git/x/y",
            "a/desktop.ini",
            "a/1.jpg",
            "../up.jpg",
        )
    )
    assert [entry.path for entry in left] == ["a/1.jpg", "../up.jpg"]


def test_class_names_are_trimmed_and_normalised_so_that_one_class_stays_one() -> None:
    decomposed = unicodedata.normalize("NFD", "bär")
    lines = folder_lines(entries(f"{decomposed}/1.jpg", " bär /2.jpg", "  /3.jpg"))
    assert [line.class_name for line in lines] == ["bär", "bär", None]
    assert lines[2].refusal is not None


def test_one_wrapping_folder_is_taken_off() -> None:
    def paths(*names: str) -> list[str]:
        return [entry.path for entry in unwrapped(entries(*names))]

    assert paths("bears/black/1.jpg", "bears/teddys/2.jpg") == ["black/1.jpg", "teddys/2.jpg"]
    assert paths("bears/train/a/1.jpg", "bears/labels.csv") == ["train/a/1.jpg", "labels.csv"]
    # Pictures directly in the one folder make it a class; a split's name makes it a split.
    assert paths("black/1.jpg", "black/x/2.jpg") == ["black/1.jpg", "black/x/2.jpg"]
    assert paths("train/a/1.jpg", "train/b/2.jpg") == ["train/a/1.jpg", "train/b/2.jpg"]
    assert paths("a/1.jpg", "b/2.jpg") == ["a/1.jpg", "b/2.jpg"]


def test_beside_a_csv_of_labels_the_wrapping_folder_may_hold_the_pictures_itself() -> None:
    names = ("set/labels.csv", "set/1.jpg")
    relative = unwrapped(entries(*names), labels="labels.csv")
    assert [entry.path for entry in relative] == ["labels.csv", "1.jpg"]
    named_from_the_root = unwrapped(entries(*names), labels="set/labels.csv")
    assert [entry.path for entry in named_from_the_root] == list(names)


def test_an_unsafe_name_neither_wraps_nor_hides_the_wrapping_folder() -> None:
    unsafe = Entry("../evil.jpg", 9, Refusal("unsafe_name", "no"))
    assert [entry.path for entry in unwrapped([*entries("bears/black/1.jpg"), unsafe])] == [
        "black/1.jpg",
        "../evil.jpg",
    ]


def test_addresses_are_taken_class_by_class_without_blanks_and_comments() -> None:
    source = UrlSource(
        urls={
            " black ": ("", "  http://h/1?a=b ", "# gone: http://h/0", "http://h/2", "http://h/3"),
            "teddys": ("\thttp://h/1?a=b\r",),
        },
        max_per_class=2,
    )
    assert [(line.class_name, line.location) for line in url_lines(source)] == [
        ("black", "http://h/1?a=b"),
        ("black", "http://h/2"),
        ("teddys", "http://h/1?a=b"),
    ]


def test_a_list_without_a_class_name_is_refused_line_by_line() -> None:
    (line,) = url_lines(UrlSource(urls={" ": ("http://h/1",)}))
    assert line.refusal is not None
    assert line.refusal.code == "no_class"
