"""The job's mailbox: reads the spec, tells the progress, and says how the run ended."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from bearloop.contract.jobs import (
    Problem,
    Progress,
    Result,
    attempt_prefix,
    progress_key,
    result_key,
    spec_key,
)
from bearloop.contract.runs import RunOutput, RunSpec
from bearloop.store import Store
from trainer.errors import InputError

PERIOD: Final = 1.0
"""Least seconds between two progress writes of one stage."""


class Mailbox:
    """What one attempt reads and writes of `jobs/<id>/`."""

    def __init__(
        self, store: Store, *, job: str, attempt: str, tells_progress: bool = True
    ) -> None:
        """Stand for one attempt; writes only below the attempt's prefix until the result."""
        self.store = store
        self.job = job
        self.attempt = attempt
        self.prefix = attempt_prefix(job, attempt)
        self._tells_progress = tells_progress
        self._stage: str | None = None
        self._written = 0.0
        self._said = ""

    def read_spec(self) -> RunSpec:
        """Read the job's specification; raises InputError when it is not one."""
        return parse_spec(self.store.get(spec_key(self.job)))

    def progress(
        self,
        stage: str,
        done: int,
        total: int | None = None,
        *,
        message: str = "",
        numbers: dict[str, float] | None = None,
    ) -> None:
        """Overwrite the progress, at most once a second; a new stage and a last step are told."""
        if not self._tells_progress:
            return
        now = time.monotonic()
        if stage == self._stage and done != total and now - self._written < PERIOD:
            return
        self._stage, self._written = stage, now
        progress = Progress(
            stage=stage,
            done=done,
            total=total,
            message=message or self._said,
            numbers=numbers or {},
            at=datetime.now(UTC),
        )
        self.store.put(progress_key(self.job, self.attempt), progress.canonical())

    def say(self, sentence: str) -> None:
        """Let each progress from here on carry a message that has none of its own."""
        self._said = sentence
        self._written = 0.0  # the next one is told at once

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """Return what tells (done, total) of one stage."""
        return lambda done, total: self.progress(stage, done, total)

    def silent(self) -> "Mailbox":
        """Return the same mailbox for a process that leaves the progress to another one."""
        return Mailbox(self.store, job=self.job, attempt=self.attempt, tells_progress=False)

    def left_key(self, attempt: str) -> str:
        """Return the key by which a process of an attempt tells the others that it left."""
        return attempt_prefix(self.job, attempt) + "left"

    def finish(self, output: RunOutput) -> Result:
        """Create the result of a run that is done: the last thing that the job writes."""
        return self._create(
            Result(job=self.job, attempt=self.attempt, outcome="done", output=output)
        )

    def refuse(self, problem: Problem) -> Result:
        """Create the result of a run whose input is at fault."""
        return self._create(
            Result(job=self.job, attempt=self.attempt, outcome="input_at_fault", problem=problem)
        )

    def _create(self, result: Result) -> Result:
        if not self.store.put_new(result_key(self.job), result.canonical()):
            # Another attempt was first. Ours is kept beside its data, and nobody acts on it.
            self.store.put(self.prefix + "result.json", result.canonical())
        return result


def parse_spec(data: bytes) -> RunSpec:
    """Decode a specification; raises InputError naming the first field that is wrong."""
    try:
        return RunSpec.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            "spec_invalid",
            f"the specification is wrong: {first['msg']}",
            field=".".join(str(part) for part in first["loc"]),
            value=repr(first["input"])[:200],
            way_out="write it with this version's contract",
        ) from error
