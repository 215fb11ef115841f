"""The job's mailbox in the object store: the spec that goes in, progress and result that come."""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from bearloop.contract.imports import ImportOutput, ImportSpec
from bearloop.contract.jobs import (
    ExitCode,
    Problem,
    Progress,
    Result,
    attempt_prefix,
    progress_key,
    result_key,
    spec_key,
)
from bearloop.store import Store, StoreError
from importer.problems import SourceError
from importer.shards import Parts, Shard
from importer.sources import SourceLine

EVERY: Final = 1.0
"""Seconds between two writes of the progress."""
logger = logging.getLogger(__name__)


class Mailbox:
    """What one attempt of one job reads and writes."""

    def __init__(self, store: Store, *, job: str, attempt: str, shard: Shard | None = None) -> None:
        self._store = store
        self._shard = shard or Shard()
        self._job = job
        self._attempt = attempt

    def ended(self) -> ExitCode | None:
        """Return how the job ended, when an earlier attempt has already answered."""
        key = result_key(self._job)
        if not self._store.exists(key):
            return None
        outcome = Result.model_validate_json(self._store.get(key)).outcome
        return ExitCode.done if outcome == "done" else ExitCode.input_at_fault

    def spec(self) -> ImportSpec:
        """Read the specification; raises SourceError when it is none."""
        data = self._store.get(spec_key(self._job))
        try:
            return ImportSpec.model_validate_json(data)
        except ValidationError as error:
            raise SourceError(
                Problem(code="bad_spec", detail=f"spec.json is no import: {error}", field="spec")
            ) from error

    def key(self, name: str) -> str:
        """Return the key of a file of this attempt."""
        return attempt_prefix(self._job, self._attempt) + name

    def progress(self) -> "Reporter":
        """Return a context manager that reports how far this attempt is."""
        return Reporter(self._store, progress_key(self._job, self._attempt), shard=self._shard)

    def parts(self, lines: Sequence[SourceLine]) -> Parts:
        """Return the parts that this import is shared in."""
        return Parts(self._store, job=self._job, count=self._shard.count, lines=lines)

    def finish(self, output: ImportOutput) -> None:
        """Answer that the job is done."""
        self._answer(Result(job=self._job, attempt=self._attempt, outcome="done", output=output))

    def refuse(self, problem: Problem) -> None:
        """Answer that the input is at fault."""
        self._answer(
            Result(job=self._job, attempt=self._attempt, outcome="input_at_fault", problem=problem)
        )

    def _answer(self, result: Result) -> None:
        if not self._store.put_new(result_key(self._job), result.canonical()):
            # Another attempt was first; this one's answer is kept beside its data.
            self._store.put(self.key("result.json"), result.canonical())


class Reporter:
    """Writes the newest progress about once a second, from a thread of its own.

    The store may be slow or away for a while: nobody waits for a progress report.
    """

    def __init__(
        self, store: Store, key: str, *, every: float = EVERY, shard: Shard | None = None
    ) -> None:
        self._store = store
        self._key = key
        self._every = every
        self._shard = shard or Shard()
        self._newest = self._said("start", done=0)
        self._wake = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends = True
        self._wake.set()
        self._thread.join()

    def show(self, stage: str, *, done: int, total: int | None = None, message: str = "") -> None:
        """Set what the next report says; a new stage is reported at once."""
        before = self._newest.stage
        self._newest = self._said(stage, done=done, total=total, message=message)
        if stage != before:
            self._wake.set()

    def _said(
        self, stage: str, *, done: int, total: int | None = None, message: str = ""
    ) -> Progress:
        return Progress(
            stage=stage,
            done=done,
            total=total,
            message=message,
            at=datetime.now(UTC),
            shard=self._shard.index,
            shards=self._shard.count,
        )

    def _report(self) -> None:
        written: Progress | None = None
        while not self._ends:
            written = self._write(written)
            self._wake.wait(self._every)
            self._wake.clear()
        self._write(written)

    def _write(self, written: Progress | None) -> Progress:
        newest = self._newest
        if newest is not written:
            try:
                self._store.put(self._key, newest.canonical())
            except (StoreError, OSError) as error:
                logger.warning("progress was not written: %s", error)
        return newest
