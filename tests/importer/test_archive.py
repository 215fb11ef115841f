"""Zips as people and attackers make them."""

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from bearloop.contract.imports import ZipSource
from bearloop.store import FolderStore
from importer.archive import Archive
from importer.problems import RefusedError, SourceError
from importer.sources import Entry
from tests.fixtures.pictures import encoded, jpeg, photo
from tests.importer.job import SMALL, refused, summary, uploaded, zipped, zipped_link
from tests.importer.job import imported as taken

FLAGS_CENTRAL = 8
SIZE_CENTRAL = 24


def imported(store: FolderStore, data: bytes) -> dict[str, str]:
    return summary(taken(store, ZipSource(upload=uploaded(store, data)), limits=SMALL))


def patched(data: bytes, name: str, *, at: int, value: bytes) -> bytes:
    """Overwrite a field of an entry's header in the central directory."""
    start = data.rindex(name.encode()) - 46 + at
    return data[:start] + value + data[start + len(value) :]


def test_unsafe_names_are_refused_and_the_rest_is_imported(store: FolderStore) -> None:
    names = ("../up.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\b.jpg", "bears/../../x.jpg", "bears/ok.jpg")
    lines = imported(store, zipped({name: jpeg() for name in names}))
    assert lines == dict.fromkeys(names[:-1], "unsafe_name") | {"bears/ok.jpg": "bears"}


def test_a_name_with_a_nul_byte_reaches_the_ledger_in_print(store: FolderStore) -> None:
    data = zipped({"bears/aXb.jpg": jpeg(), "bears/ok.jpg": jpeg()})
    lines = imported(store, data.replace(b"aXb", b"a\0b"))
    assert lines == {
        "bears/a\N{REPLACEMENT CHARACTER}b.jpg": "unsafe_name",
        "bears/ok.jpg": "bears",
    }


def test_a_name_in_utf8_that_does_not_say_so_is_read_as_such(store: FolderStore) -> None:
    said, unsaid = zipped({"b\u00e4r/1.jpg": jpeg()}), zipped({"bxxr/1.jpg": jpeg()})
    raw = unsaid.replace(b"bxxr", "b\u00e4r".encode())
    old = unsaid.replace(b"bxxr", b"b\x84\x81r")
    assert imported(store, said) == imported(store, raw) == {"b\u00e4r/1.jpg": "b\u00e4r"}
    # What is no UTF-8 is of DOS.
    assert imported(store, old) == {"b\u00e4\u00fcr/1.jpg": "b\u00e4\u00fcr"}


def test_links_and_encrypted_entries_are_refused(store: FolderStore) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipped_link("bears/link.jpg", "/etc/passwd"), b"/etc/passwd")
        archive.writestr("bears/locked.jpg", jpeg())
        archive.writestr("bears/ok.jpg", jpeg())
    data = patched(
        buffer.getvalue(), "bears/locked.jpg", at=FLAGS_CENTRAL, value=struct.pack("<H", 1)
    )
    assert imported(store, data) == {
        "bears/link.jpg": "symlink",
        "bears/locked.jpg": "encrypted",
        "bears/ok.jpg": "bears",
    }


def test_a_bomb_is_refused_by_what_it_claims_and_by_what_comes_out(store: FolderStore) -> None:
    zeros = bytes(4_000_000)
    data = zipped({"bears/bomb.jpg": zeros, "bears/liar.jpg": zeros, "bears/ok.jpg": jpeg()})
    lied = patched(data, "bears/liar.jpg", at=SIZE_CENTRAL, value=struct.pack("<L", 100))
    assert imported(store, lied) == {
        "bears/bomb.jpg": "bomb",
        "bears/liar.jpg": "unreadable_entry",
        "bears/ok.jpg": "bears",
    }


def test_ratio_and_size_are_held_while_an_entry_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped({"a/bomb.jpg": bytes(4_000_000)}))
    for most, code in ((10_000_000, "bomb"), (100_000, "too_large")):
        limits = SMALL.model_copy(update={"max_bytes": most})
        with (
            Archive(path, limits=limits, upload="x") as archive,
            pytest.raises(RefusedError) as caught,
        ):
            archive.read(0)
        assert caught.value.refusal.code == code


def test_a_large_entry_is_refused_unread(store: FolderStore) -> None:
    noise = encoded(photo(1, (600, 600)).effect_spread(200), "BMP")
    files = {"bears/large.bmp": noise, "bears/ok.jpg": jpeg()}
    assert imported(store, zipped(files)) == {
        "bears/large.bmp": "too_large",
        "bears/ok.jpg": "bears",
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_that_unpack_without_bounds_are_refused(store: FolderStore, method: int) -> None:
    data = zipped({"bears/1.jpg": jpeg()}, compression=method)
    assert imported(store, data) == {"bears/1.jpg": "unsupported_compression"}


def test_a_damaged_entry_and_a_nested_zip_are_lines(store: FolderStore) -> None:
    data = zipped({"bears/bad.jpg": jpeg(), "bears/inner.zip": zipped({"a/1.jpg": jpeg()})})
    at = data.index(b"bears/bad.jpg") + 60
    broken = data[:at] + bytes(reversed(data[at : at + 8])) + data[at + 8 :]
    assert imported(store, broken) == {
        "bears/bad.jpg": "unreadable_entry",
        "bears/inner.zip": "not_a_picture",
    }


def test_each_entry_of_the_same_name_is_a_line_of_its_own(store: FolderStore) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of what this test is about
        for seed in (1, 2, 1):
            archive.writestr("bears/1.jpg", jpeg(seed))
    lines = taken(store, ZipSource(upload=uploaded(store, buffer.getvalue())))
    assert [line.status for line in lines] == ["stored", "stored", "duplicate"]
    assert lines[0].sha256 == lines[2].sha256 != lines[1].sha256


def test_what_is_no_zip_is_the_inputs_fault(store: FolderStore) -> None:
    for data in (b"", b"no zip at all", zipped({"a/1.jpg": jpeg()})[:-30]):
        problem = refused(store, ZipSource(upload=uploaded(store, data)))
        assert (problem.code, problem.field) == ("bad_zip", "upload")
        assert problem.way_out


def test_a_missing_upload_is_the_inputs_fault(store: FolderStore) -> None:
    assert refused(store, ZipSource(upload="0" * 64)).code == "missing_upload"


def test_a_zip_of_too_many_entries_is_refused_before_it_is_opened(store: FolderStore) -> None:
    files = {f"a/{number}.jpg": b"" for number in range(11)}
    limits = SMALL.model_copy(update={"max_entries": 10})
    data = zipped(files)
    for claimed in (data, data[:-14] + struct.pack("<HH", 1, 1) + data[-10:]):
        problem = refused(store, ZipSource(upload=uploaded(store, claimed)), limits=limits)
        assert problem.code == "too_many_entries"


def test_entries_that_lie_over_each_other_are_a_bomb(tmp_path: Path) -> None:
    # Two names of one run of bytes: the trick by which a few kilobytes unpack to petabytes.
    data = zipped({"a/1.jpg": jpeg(1), "a/2.jpg": jpeg(2)}, compression=zipfile.ZIP_STORED)
    length = struct.pack("<LL", len(jpeg(1)) * 4, len(jpeg(1)) * 4)
    path = tmp_path / "bomb.zip"
    path.write_bytes(patched(data, "a/1.jpg", at=20, value=length))
    with Archive(path, limits=SMALL, upload="x") as archive, pytest.raises(SourceError) as caught:
        archive.entries()
    assert caught.value.problem.code == "bomb"


def test_a_comment_behind_and_empty_folders_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "comment.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"made by hand " * 100
        archive.writestr("a/1.jpg", jpeg())
        archive.mkdir("b")
    with Archive(path, limits=SMALL, upload="x") as archive:
        assert archive.entries() == [Entry("a/1.jpg", 0)]
        assert archive.read(0) == jpeg()
