"""What a job and the worker say to each other through the job's mailbox in the object store.

A job's mailbox is `jobs/<id>/`: `spec.json` goes in; an attempt writes only below
`attempts/<attempt>/` (`progress.json`, its data) and last creates `result.json`, once. Where
several pods share an import, each creates its part below `parts/`, and the last one the result.
"""

from datetime import datetime
from enum import IntEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bearloop.contract.imports import ImportOutput
from bearloop.contract.record import Record
from bearloop.contract.runs import RunOutput


class ExitCode(IntEnum):
    """How a job's process ends; every other code is a crash and is retried up to the limit."""

    done = 0
    input_at_fault = 42
    """Never retried; the reason stands in the result."""
    interrupted = 75
    """After a checkpoint; retried and not counted."""


class Problem(Record):
    """Why an input was refused: the field, its value, and the way out."""

    code: str
    detail: str
    field: str | None = None
    value: str | None = None
    way_out: str | None = None


class Progress(Record):
    """How far an attempt is; overwritten in place, small."""

    stage: str
    done: int
    total: int | None = None
    message: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)
    """Newest figures by name, e.g. `valid_loss`."""
    at: datetime
    shard: int = 0
    """Which part of the job this is about, where several pods share it."""
    shards: int = 1
    """Pods that share it."""


class Result(Record):
    """How a job ended; the first one created wins, a later one is kept and ignored."""

    job: str
    attempt: str
    outcome: Literal["done", "input_at_fault"]
    problem: Problem | None = None
    output: Annotated[ImportOutput | RunOutput, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.outcome == "done" and self.output is None:
            raise ValueError("output: a job that is done has one")
        return self


def spec_key(job: str) -> str:
    """Return the key of the job's specification."""
    return f"jobs/{job}/spec.json"


def result_key(job: str) -> str:
    """Return the key of the job's one result."""
    return f"jobs/{job}/result.json"


def attempt_prefix(job: str, attempt: str) -> str:
    """Return the prefix below which one attempt writes; ends with a slash."""
    return f"jobs/{job}/attempts/{attempt}/"


def progress_key(job: str, attempt: str) -> str:
    """Return the key of an attempt's progress."""
    return attempt_prefix(job, attempt) + "progress.json"


def parts_prefix(job: str) -> str:
    """Return the prefix below which the shards of a job say that their parts are there."""
    return f"jobs/{job}/parts/"


def attempts_prefix(job: str) -> str:
    """Return the prefix of all attempts' own prefixes."""
    return f"jobs/{job}/attempts/"


def checkpoint_prefix(job: str) -> str:
    """Return the prefix of the job's checkpoints, which the next attempt resumes from."""
    return f"jobs/{job}/checkpoints/"
