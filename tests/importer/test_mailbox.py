"""The mailbox: the first answer stays, and progress is nobody's hold-up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bearloop.contract.imports import ImportOutput
from bearloop.contract.jobs import ExitCode, Problem, Progress, Result, result_key
from bearloop.store import FolderStore, StoreError
from importer.mailbox import Mailbox, Reporter
from importer.settings import MissingVariableError, read_settings

OUTPUT = ImportOutput(ledger_key="k", stored=1, duplicates=0, refused=0)


class BrokenStore(FolderStore):
    """A store that nothing can be written to."""

    def put(self, key: str, data: bytes) -> None:
        raise StoreError(f"{key}: {len(data)} bytes are too many today")


@contextmanager
def within(seconds: float) -> Iterator[float]:
    deadline = time.monotonic() + seconds
    yield deadline
    assert time.monotonic() < deadline


def test_of_two_attempts_the_first_answers_and_the_second_is_kept(store: FolderStore) -> None:
    first = Mailbox(store, job="j", attempt="1")
    second = Mailbox(store, job="j", attempt="2")
    assert first.ended() is None
    first.finish(OUTPUT)
    second.refuse(Problem(code="late", detail="too late"))
    assert Result.model_validate_json(store.get(result_key("j"))).attempt == "1"
    kept = Result.model_validate_json(store.get("jobs/j/attempts/2/result.json"))
    assert kept.outcome == "input_at_fault"
    assert second.ended() == ExitCode.done


def test_the_last_progress_is_written_at_the_end(store: FolderStore) -> None:
    with within(5), Reporter(store, "progress.json", every=60) as reporter:
        for done in range(1000):
            reporter.show("import", done=done + 1, total=1000)
    progress = Progress.model_validate_json(store.get("progress.json"))
    assert (progress.stage, progress.done, progress.total) == ("import", 1000, 1000)


def test_a_store_that_takes_no_progress_does_not_stop_the_job(store: FolderStore) -> None:
    with within(5), Reporter(BrokenStore(store.folder), "progress.json") as reporter:
        reporter.show("import", done=1)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(MissingVariableError, match="BEARLOOP_JOB"):
        read_settings({"BEARLOOP_STORE_URL": "file:///x", "BEARLOOP_ATTEMPT": "1"})
    variables = {
        "BEARLOOP_STORE_URL": "file:///x",
        "BEARLOOP_JOB": "j",
        "BEARLOOP_ATTEMPT": "1",
        "BEARLOOP_SOURCE_PREFIXES": "s3://a/b file:///data",
    }
    assert read_settings(variables).source_prefixes == ("s3://a/b", "file:///data")
