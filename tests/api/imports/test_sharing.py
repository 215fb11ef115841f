"""How many pods share an import, and how far they are together."""

import io
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from api.imports.counting import count_sources, zip_entries
from api.imports.plan import Sharing
from api.jobs.mailbox import Mailbox
from bearloop.contract.imports import FolderSource, ImportSpec, Source, UrlSource, ZipSource
from bearloop.contract.jobs import Progress, progress_key
from bearloop.store import FolderStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def spec_of(source: Source, *, only: tuple[int, ...] | None = None) -> ImportSpec:
    return ImportSpec(job="job-1", project="zoo", dataset="bears", source=source, only=only)


@pytest.mark.parametrize(
    ("most", "sources", "shards"),
    [(8, 0, 1), (8, 1, 1), (8, 20_000, 1), (8, 20_001, 2), (8, 10**6, 8), (1, 10**6, 1)],
)
def test_a_pod_more_for_so_many_sources(most: int, sources: int, shards: int) -> None:
    assert Sharing(most).shards(sources) == shards


def test_addresses_are_counted_as_they_are_taken(store: FolderStore) -> None:
    urls = {"black": tuple("abcde"), "teddy": ("f",)}
    assert count_sources(spec_of(UrlSource(urls=urls)), store, most=100) == 6
    source = UrlSource(urls=urls, max_per_class=2)
    assert count_sources(spec_of(source), store, most=100) == 3
    assert count_sources(spec_of(source, only=(4, 7)), store, most=100) == 2


def test_a_folder_is_counted_as_far_as_it_matters(store: FolderStore) -> None:
    pictures = store.under("pictures/")
    for number in range(7):
        pictures.put(f"black/{number}.jpg", b"x")
    source = FolderSource(uri=pictures.url)
    assert count_sources(spec_of(source), store, most=100) == 7
    assert count_sources(spec_of(source), store, most=5) == 5


@pytest.mark.parametrize("entries", [0, 3, 70_000])
def test_a_zip_says_how_many_files_it_has(store: FolderStore, entries: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"bears"
        for number in range(entries):
            archive.writestr(str(number), b"")
    store.put("uploads/" + "ab" * 32, buffer.getvalue())
    source = ZipSource(upload="ab" * 32)
    assert count_sources(spec_of(source), store, most=10**6) == max(1, entries)


def test_what_cannot_be_counted_is_one(store: FolderStore) -> None:
    assert count_sources(spec_of(ZipSource(upload="cd" * 32)), store, most=100) == 1
    assert [zip_entries(tail) for tail in (b"", b"PK\5\6", b"PK\5\6" + bytes(20))] == [1, 1, 1]


class TestProgress:
    def said(self, store: FolderStore, attempt: str, **fields: object) -> None:
        given = {"stage": "import", "done": 0, "at": NOW, "shards": 2, **fields}
        progress = Progress.model_validate(given)
        store.put(progress_key("job-1", attempt), progress.canonical())

    def test_the_parts_add_up_and_of_each_the_newest_word_counts(self, store: FolderStore) -> None:
        self.said(store, "a", shard=0, done=3, total=10)
        self.said(store, "b", shard=1, done=1)
        found = Mailbox(store, "job-1").progress("a")
        assert found is not None
        assert (found.done, found.total, found.shards) == (4, None, 2)
        # The second pod died, and another took its place.
        self.said(store, "c", shard=1, done=6, total=11, at=NOW + timedelta(seconds=9))
        found = Mailbox(store, "job-1").progress("a")
        assert found is not None
        assert (found.done, found.total) == (9, 21)
        # An earlier launch was shared otherwise: it does not count.
        self.said(store, "old", shard=1, done=99, total=99, shards=3)
        assert Mailbox(store, "job-1").progress("a") == found

    def test_a_job_of_one_pod_is_as_it_says(self, store: FolderStore) -> None:
        self.said(store, "a", shards=1, done=3, total=10)
        self.said(store, "b", shards=1, done=9, total=10)
        found = Mailbox(store, "job-1").progress("a")
        assert found is not None
        assert (found.done, found.total) == (3, 10)
