"""What a kind of job adds to the life that all jobs share."""

from typing import Any, Protocol

from sqlalchemy.orm import Session

from api.tables import Job, JobState
from bearloop.contract.imports import ImportOutput, ImportSpec
from bearloop.contract.runs import RunOutput, RunSpec


class JobKind(Protocol):
    """Called by the worker step; everything but `ingest` runs outside any transaction."""

    name: str
    """`import` or `run`: the job row's kind."""
    program: str
    """`importer` or `trainer`."""

    def prepare(self, job: Job) -> ImportSpec | RunSpec:
        """Make what the job needs outside the database; return the spec to write; repeatable."""
        ...

    def load(self, job: Job, output: ImportOutput | RunOutput) -> Any:
        """Read what the attempt wrote, and do what is slow; repeatable."""
        ...

    def ingest(self, session: Session, job: Job, loaded: Any) -> None:
        """Turn it into rows, in the transaction that makes the job done."""
        ...

    def settle(self, job: Job, state: JobState) -> None:
        """Tell the outside world that the job ended so; repeatable."""
        ...
