"""The import job from its mailbox to its result, on folders, zips and web servers."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from aiohttp import web

from bearloop.contract.imports import FolderSource, Labels, LedgerLine, Source, UrlSource
from bearloop.contract.jobs import ExitCode, Progress, progress_key, result_key
from bearloop.preprocess import read_picture
from bearloop.store import FolderStore, Store, image_key, open_store, thumbnail_key
from importer.fingerprints import sha256_of
from importer.sources import url_lines
from tests.fixtures.pictures import (
    animated_gif,
    encoded,
    huge_png,
    jpeg,
    photo,
    rotated_jpeg,
)
from tests.fixtures.web import Web
from tests.importer.conftest import SHARED
from tests.importer.job import (
    SMALL,
    Job,
    imported,
    refused,
    summary,
    write_files,
    zip_source,
)

DEADLINE = 60.0
MIXED = {
    "bears/cmyk.jpg": encoded(photo(1).convert("CMYK")),
    "bears/deep.png": encoded(photo(2).convert("I").convert("I;16"), "PNG"),
    "bears/grey.jpg": encoded(photo(3).convert("L")),
    "bears/palette.png": encoded(photo(4).convert("P"), "PNG", transparency=0),
    "bears/turned.jpg": rotated_jpeg(6),
    "wrong/animated.gif": animated_gif(),
    "wrong/big.jpg": jpeg(5) + bytes(SMALL.max_bytes),
    "wrong/cut.jpg": jpeg(6)[:-40],
    "wrong/empty.jpg": b"",
    "wrong/huge.png": huge_png(),
    "wrong/page.jpg": b"<!doctype html><title>403</title>",
    "wrong/text.jpg": b"a text named .jpg",
}
CODES = {
    "wrong/animated.gif": "animated",
    "wrong/big.jpg": "too_large",
    "wrong/cut.jpg": "truncated",
    "wrong/empty.jpg": "empty_file",
    "wrong/huge.png": "too_many_pixels",
    "wrong/page.jpg": "not_a_picture",
    "wrong/text.jpg": "not_a_picture",
}


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "any-store")
    return open_store(request.getfixturevalue("s3_url"))


def folder(root: Path, **fields: object) -> FolderSource:
    return FolderSource(uri=root.as_uri(), **fields)


class TestPictures:
    def test_odd_pictures_are_stored_as_they_are_and_wrong_ones_named(
        self, any_store: Store, tmp_path: Path
    ) -> None:
        root = write_files(tmp_path / "source", MIXED)
        lines = imported(any_store, folder(root), limits=SMALL, thumbnail_size=32)
        assert [line.location for line in lines] == sorted(MIXED)
        assert summary(lines) == {path: CODES.get(path, path.partition("/")[0]) for path in MIXED}
        assert all(line.detail for line in lines if line.status == "refused")
        for line in lines[:5]:
            self._is_whole(any_store, line, MIXED[line.location])

    def _is_whole(self, store: Store, line: LedgerLine, original: bytes) -> None:
        assert line.sha256 == sha256_of(original)
        assert store.get(image_key(line.sha256)) == original
        upright = read_picture(original)
        assert (line.width, line.height) == upright.size
        assert line.bytes == len(original)
        assert line.perceptual_hash is not None
        thumbnail = read_picture(store.get(thumbnail_key(line.sha256)))
        assert max(thumbnail.size) == 32
        assert (thumbnail.width > thumbnail.height) == (upright.width > upright.height)

    def test_the_same_bytes_in_two_classes_are_one_image_with_two_claims(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        root = write_files(tmp_path / "x", {"black/1.jpg": jpeg(), "grizzly/2.jpg": jpeg()})
        first, second = imported(store, folder(root))
        assert (first.status, first.class_name) == ("stored", "black")
        assert (second.status, second.class_name) == ("duplicate", "grizzly")
        assert first.sha256 == second.sha256
        assert len(list(store.list("images/"))) == 1

    def test_links_out_of_the_folder_and_pipes_are_not_opened(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        outside = write_files(tmp_path / "outside", {"secret.jpg": jpeg(1)})
        root = write_files(tmp_path / "x", {"bears/1.jpg": jpeg(2)})
        (root / "bears" / "2.jpg").symlink_to(root / "bears" / "1.jpg")
        (root / "bears" / "3.jpg").symlink_to(outside / "secret.jpg")
        (root / "linked").symlink_to(outside)
        os.mkfifo(root / "bears" / "4.jpg")
        assert summary(imported(store, folder(root))) == {
            "bears/1.jpg": "bears",
            "bears/2.jpg": "bears",
            "bears/3.jpg": "symlink",
            "bears/4.jpg": "not_a_file",
            "linked": "symlink",
        }

    def test_a_name_that_is_no_utf8_reaches_the_ledger(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        root = write_files(tmp_path / "x", {"bears/1.jpg": jpeg()})
        Path(os.fsdecode(os.fsencode(root) + b"/bears/b\xe4r.jpg")).write_bytes(jpeg(2))
        lines = imported(store, folder(root))
        assert [line.location for line in lines] == ["bears/1.jpg", "bears/b?r.jpg"]
        assert lines[1].status == "stored"


class TestLayouts:
    def test_a_zip_with_a_wrapping_folder_and_splits(self, any_store: Store) -> None:
        files = {
            "set/train/black/1.jpg": jpeg(1),
            "set/valid/black/2.jpg": jpeg(2),
            "__MACOSX/set/._1.jpg": b"x",
            "set/.DS_Store": b"x",
        }
        assert summary(imported(any_store, zip_source(any_store, files))) == {
            "train/black/1.jpg": "train/black",
            "valid/black/2.jpg": "valid/black",
        }

    @pytest.mark.parametrize("kind", ["folder", "zip", "bucket"])
    def test_a_csv_may_be_larger_than_a_picture(
        self, store: FolderStore, s3_url: str, tmp_path: Path, kind: str
    ) -> None:
        # Unlike each other, or a zip would be taken for a bomb.
        rows = "".join(f"{number * 7919 % 100_003}.jpg,no\n" for number in range(20_000))
        files = {"labels.csv": f"name,label\nx.jpg,black\n{rows}".encode(), "x.jpg": jpeg()}
        assert len(files["labels.csv"]) > SMALL.max_bytes
        labels = Labels(path="labels.csv")
        if kind == "folder":
            source: Source = folder(write_files(tmp_path / "x", files), labels=labels)
        elif kind == "zip":
            source = zip_source(store, files, labels=labels)
        else:
            bucket = open_store(f"{s3_url}/long-csv")
            for name, data in files.items():
                bucket.put(name, data)
            source = FolderSource(uri=f"{s3_url}/long-csv", labels=labels)
        first, *others = imported(store, source, limits=SMALL)
        assert (first.location, first.class_name, first.status) == ("x.jpg", "black", "stored")
        assert len(others) == 20_000
        few = SMALL.model_copy(update={"max_labels_bytes": 1000})
        problem = refused(store, source, limits=few)
        assert problem.code == "bad_labels"
        assert "larger than 1000 bytes" in problem.detail
        assert "in parts" in (problem.way_out or "")

    @pytest.mark.parametrize("kind", ["folder", "zip"])
    def test_a_csv_says_the_labels(self, store: FolderStore, tmp_path: Path, kind: str) -> None:
        csv = "id;breed;set\n1;pug;train\n2;beagle;test\n3;pug;\n1;pug;train\n2;pug;test\n"
        files = {
            "labels.csv": csv.encode(),
            "1.jpg": jpeg(1),
            "2.jpg": jpeg(2),
            "unnamed.jpg": jpeg(3),
        }
        labels = Labels(
            path="labels.csv",
            file_column="id",
            label_column="breed",
            split_column="set",
            suffix=".jpg",
        )
        source = (
            folder(write_files(tmp_path / "x", files), labels=labels)
            if kind == "folder"
            else zip_source(store, files, labels=labels)
        )
        lines = imported(store, source)
        assert [
            (line.location, line.split, line.class_name, line.code or line.status) for line in lines
        ] == [
            ("1.jpg", "train", "pug", "stored"),
            ("2.jpg", "test", "beagle", "stored"),
            ("3.jpg", None, "pug", "unknown_file"),
            ("1.jpg", "train", "pug", "duplicate"),
            ("2.jpg", "test", "pug", "duplicate"),
        ]

    def test_a_folder_in_a_bucket(self, s3_url: str, store: FolderStore) -> None:
        bucket = open_store(s3_url)
        for name, data in {"a/1.jpg": jpeg(1), "b/2.jpg": jpeg(2), "b/": b""}.items():
            bucket.put(f"pictures/{name}", data)
        bucket.put("other/c/3.jpg", jpeg(3))
        lines = imported(store, FolderSource(uri=f"{s3_url}/pictures"))
        assert summary(lines) == {"a/1.jpg": "a", "b/2.jpg": "b"}

    def test_an_empty_file_in_a_bucket_is_refused_alone(
        self, s3_url: str, store: FolderStore
    ) -> None:
        bucket = open_store(s3_url)
        for name, data in {"a/1.jpg": jpeg(1), "b/2.jpg": b""}.items():
            bucket.put(f"pictures/{name}", data)
        lines = imported(store, FolderSource(uri=f"{s3_url}/pictures"))
        assert [(line.location, line.status) for line in lines] == [
            ("a/1.jpg", "stored"),
            ("b/2.jpg", "refused"),
        ]


class TestTheInputAtFault:
    def test_what_is_not_there_is_named(self, store: FolderStore, tmp_path: Path) -> None:
        gone = folder(tmp_path / "gone")
        problem = refused(store, gone)
        assert (problem.code, problem.field, problem.value) == (
            "no_such_folder",
            "uri",
            gone.uri,
        )
        empty = write_files(tmp_path / "plain", {"readme.txt": b"x"})
        assert refused(store, folder(empty)).code == "no_class"
        labelled = folder(empty, labels=Labels(path="labels.csv"))
        assert refused(store, labelled).code == "no_labels_file"
        wrong = folder(empty, labels=Labels(path="readme.txt"))
        assert refused(store, wrong).code == "missing_column"
        assert refused(store, UrlSource(urls={"a": ("", "# none")})).code == "no_class"
        assert refused(store, FolderSource(uri="gs://x/y")).code == "bad_uri"

    def test_a_bucket_that_is_not_there_is_named(self, s3_url: str, store: FolderStore) -> None:
        problem = refused(store, FolderSource(uri="s3://nobody-has-this-bucket/x"))
        assert problem.code == "no_such_folder"
        assert refused(store, FolderSource(uri=f"{s3_url}/empty")).code == "no_such_folder"

    def test_a_folder_that_the_operator_does_not_list_is_not_read(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        root = write_files(tmp_path / "data" / "x", {"a/1.jpg": jpeg()})
        allowed = ((tmp_path / "data").as_uri(),)
        assert Job(store, folder(root)).run(prefixes=allowed) == ExitCode.done
        beside = FolderSource(uri=f"{allowed[0]}-private/x")
        climbing = FolderSource(uri=f"{allowed[0]}/../x")
        hidden = FolderSource(uri=f"{allowed[0]}/%2e%2e/x")
        # Read as `..`: what parses an address drops the tab.
        broken = FolderSource(uri=f"{allowed[0]}/.\t./x")
        for source in (beside, climbing, hidden, broken):
            assert refused(store, source, prefixes=allowed).code == "forbidden_folder", source

    def test_a_spec_that_is_none_is_refused(self, store: FolderStore) -> None:
        job = Job(store, UrlSource(urls={}))
        store.put(f"jobs/{job.id}/spec.json", b'{"kind": "import"}')
        assert job.run() == ExitCode.input_at_fault
        assert job.problem().code == "bad_spec"


class TestAddresses:
    def test_every_address_has_its_line_in_order(self, store: FolderStore, site: Web) -> None:
        inline = "data:image/png;base64," + "A" * 100_000
        page = site.serve("/page", b"<html>no</html>", content_type="text/html")
        good = site.serve("/1.jpg", jpeg(1))
        source = UrlSource(
            urls={
                "black": (good, page, f"{site.url}/gone", good, inline),
                "teddys": (good, site.serve("/2.jpg?x=1", jpeg(2)), "http://10.0.0.1.x:y/"),
            }
        )
        site.serve("/2.jpg", jpeg(2))
        lines = imported(store, source, allow_private_addresses=True, limits=SMALL)
        assert [(line.class_name, line.code or line.status) for line in lines] == [
            ("black", "stored"),
            ("black", "not_a_picture"),
            ("black", "http_404"),
            ("black", "duplicate"),
            ("black", "wrong_scheme"),
            ("teddys", "duplicate"),
            ("teddys", "stored"),
            ("teddys", "bad_url"),
        ]
        assert len(lines[4].location) < 300
        assert lines[0].content_type == "image/jpeg"
        assert "text/html" in str(lines[1].detail)
        assert site.asked["/1.jpg"] == 1

    def test_private_addresses_are_not_asked_unless_allowed(
        self, store: FolderStore, site: Web
    ) -> None:
        source = UrlSource(urls={"a": (site.serve("/1.jpg", jpeg()), "http://localhost:1/x")})
        lines = imported(store, source)
        assert [line.code for line in lines] == ["private_address"] * 2
        assert not site.asked

    def test_a_retry_takes_only_the_positions_it_is_told(
        self, store: FolderStore, site: Web
    ) -> None:
        first = site.serve("/1.jpg", jpeg(1))
        source = UrlSource(urls={"a": (first, f"{site.url}/late.jpg", first)})
        allowed = {"allow_private_addresses": True, "limits": SMALL}
        failed = [line.position for line in imported(store, source, **allowed) if line.code]
        assert failed == [1]
        site.serve("/late.jpg", jpeg(2))
        (line,) = imported(store, source, only=tuple(failed), **allowed)
        assert (line.position, line.status) == (1, "stored")
        assert site.asked["/1.jpg"] == 1


class TestTheJobsEnd:
    def test_a_killed_job_run_again_ends_as_if_it_had_not_been(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        files = {f"c{n % 3}/{n:04}.jpg": jpeg(n) for n in range(200)}
        job = Job(store, zip_source(store, files))
        process = job.start()
        _wait_for_images(store, most=len(files))
        process.kill()
        process.wait()
        assert not store.exists(result_key(job.id))
        assert _progress(job)[1] == len(files)
        assert job.run() == ExitCode.done
        whole = FolderStore(tmp_path / "undisturbed")
        assert job.ledger() == imported(whole, zip_source(whole, files))
        for prefix in ("images/", "thumbnails/"):
            assert list(store.list(prefix)) == list(whole.list(prefix))

    def test_sigterm_is_an_interruption_and_leaves_no_answer(
        self, store: FolderStore, site: Web
    ) -> None:
        job = Job(
            store,
            UrlSource(urls={"a": tuple(_slow(site, number) for number in range(400))}),
            allow_private_addresses=True,
        )
        process = job.start()
        _wait_for_images(store, most=400)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == ExitCode.interrupted
        assert not store.exists(result_key(job.id))

    def test_the_first_result_wins_and_a_later_attempt_keeps_it(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        job = Job(store, folder(write_files(tmp_path / "x", {"a/1.jpg": jpeg()})))
        assert job.run() == ExitCode.done
        first = job.result()
        assert job.run() == ExitCode.done
        assert job.result() == first
        assert list(store.list(f"jobs/{job.id}/attempts/attempt-2/")) == []

    def test_an_attempt_writes_only_below_its_own_prefix_and_content_keys(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        job = Job(store, folder(write_files(tmp_path / "x", {"a/1.jpg": jpeg()})))
        process = job.start()
        assert process.wait(DEADLINE) == ExitCode.done
        sha = sha256_of(jpeg())
        mailbox = f"jobs/{job.id}"
        assert {info.key for info in store.list("")} == {
            image_key(sha),
            thumbnail_key(sha),
            f"{mailbox}/spec.json",
            f"{mailbox}/result.json",
            f"{mailbox}/attempts/attempt-1/progress.json",
            f"{mailbox}/attempts/attempt-1/ledger.parquet",
        }
        assert _progress(job) == (1, 1)

    def test_a_store_that_fails_is_a_crash_and_leaves_no_process(
        self, store: FolderStore, tmp_path: Path
    ) -> None:
        job = Job(store, folder(write_files(tmp_path / "x", {"a/1.jpg": jpeg()})))
        store.put("thumbnails", b"a file where a folder should be")
        process = job.start()
        assert process.wait(DEADLINE) not in set(ExitCode)
        assert not store.exists(result_key(job.id))

    def test_a_job_started_without_its_variables_is_a_crash(self, store: FolderStore) -> None:
        job = Job(store, UrlSource(urls={}))
        job.store = FolderStore(Path("/dev/null/none"))
        assert job.start().wait(DEADLINE) not in set(ExitCode)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not there")
class TestRealData:
    def test_the_bears(self, store: FolderStore, shared: Path) -> None:
        lines = imported(store, folder((shared / "bears").resolve()))
        assert len(lines) == 480
        assert {line.status for line in lines} == {"stored", "duplicate"}
        by_location = {line.location: line for line in lines}
        black, grizzly = by_location["black/00000169.jpg"], by_location["grizzly/00000122.jpg"]
        assert black.sha256 == grizzly.sha256
        assert (black.status, grizzly.status) == ("stored", "duplicate")

    def test_the_bears_cleaned_on_windows(self, store: FolderStore, shared: Path) -> None:
        bears = (shared / "bears").resolve()
        lines = imported(store, folder(bears, labels=Labels(path="cleaned.csv")))
        assert len(lines) == 480
        assert {line.class_name for line in lines} == {"black", "grizzly", "teddys"}
        assert not [line for line in lines if line.status == "refused"]

    def test_messy_address_lists_are_parsed(self, shared: Path) -> None:
        lists = {
            path.stem.removeprefix("urls_"): tuple(path.read_text().splitlines())
            for path in sorted((shared / "url-lists").glob("urls_*.txt"))
        }
        lines = url_lines(UrlSource(urls=lists))
        assert {line.class_name for line in lines} == {"black", "grizzly", "teddys"}
        strange = {line.location.partition("//")[0] for line in lines} - {"http:", "https:"}
        assert strange == {"x-raw-image:"}  # the ledger will say `wrong_scheme`
        given = sum(bool(text.strip()) for texts in lists.values() for text in texts)
        assert len(lines) == given


def _slow(site: Web, number: int) -> str:
    async def page(request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(body=jpeg(number))

    site.pages[f"/{number}"] = page
    return f"{site.url}/{number}"


def _progress(job: Job) -> tuple[int, int | None]:
    key = progress_key(job.id, f"attempt-{job.attempts}")
    progress = Progress.model_validate_json(job.store.get(key))
    return progress.done, progress.total


def _wait_for_images(store: Store, *, most: int) -> None:
    """Wait until a job is in the middle of its pictures."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if sum(1 for _ in store.list("images/")) >= most // 10:
            return
        time.sleep(0.01)
    raise AssertionError("the job made no progress")
