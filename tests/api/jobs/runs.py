"""A kind of run whose trainer, MLflow and report no test needs."""

from typing import Any

from sqlalchemy.orm import Session

from api.tables import Job, JobState
from bearloop.contract.imports import ImportOutput
from bearloop.contract.runs import RunOutput, RunSpec


class RunTally:
    """Implements the kind's Protocol; nothing outside the database is told."""

    name = "run"
    program = "trainer"

    def prepare(self, job: Job) -> RunSpec:
        return RunSpec.model_validate(job.spec)

    def load(self, job: Job, output: ImportOutput | RunOutput) -> Any:
        return output

    def ingest(self, session: Session, job: Job, loaded: Any) -> None:
        """A run's rows are none of these tests' matter."""

    def settle(self, job: Job, state: JobState) -> None:
        """Nobody waits for it."""
