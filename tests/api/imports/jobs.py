"""Runs an import's job to its end: the real importer in a process, then the worker's last step."""

import os
import subprocess
import sys
from uuid import UUID, uuid4

from fastapi.testclient import TestClient
from sqlalchemy import select

from api.database import Database
from api.imports.ingest import ImportKind
from api.imports.plan import Sharing
from api.stores import below_project
from api.tables import Import, Job, JobState
from bearloop.contract import environment
from bearloop.contract.imports import ImportOutput, LedgerLine
from bearloop.contract.jobs import Result, result_key, spec_key
from bearloop.ledger_file import write_ledger
from bearloop.store import Store

BEARS = "/v1/projects/zoo/datasets/bears"


def make_bears(client: TestClient, **changes: object) -> str:
    """Make the dataset `bears`; return its path."""
    answer = client.post("/v1/projects/zoo/datasets", json={"name": "bears", **changes})
    assert answer.status_code == 201, answer.text
    return BEARS


class Worker:
    """Ends queued import jobs, as the worker does, one transaction each."""

    def __init__(self, database: Database, store: Store) -> None:
        self.database = database
        self.store = store
        self.kind = ImportKind(store, Sharing())

    def work(self) -> Job:
        """Run the oldest queued job with the real importer, and ingest what it wrote."""
        job = self._queued()
        mailbox = below_project(self.store, job.project_id)
        mailbox.put(spec_key(str(job.id)), self.kind.prepare(job).canonical())
        variables = {
            environment.STORE_URL: mailbox.url,
            environment.JOB: str(job.id),
            environment.ATTEMPT: str(uuid4()),
        }
        subprocess.run(
            [sys.executable, "-m", "importer"], env={**os.environ, **variables}, check=True
        )
        result = Result.model_validate_json(mailbox.get(result_key(str(job.id))))
        assert isinstance(result.output, ImportOutput)
        return self._ingest(job.id, result.output)

    def answer(self, lines: list[LedgerLine]) -> Job:
        """End the oldest queued job with this ledger."""
        return self.ingest(self.write(lines))

    def write(self, lines: list[LedgerLine]) -> ImportOutput:
        """Write a ledger, as the oldest queued job would."""
        mailbox = below_project(self.store, self._queued().project_id)
        mailbox.put("jobs/ledger.parquet", write_ledger(lines))
        return ImportOutput(ledger_key="jobs/ledger.parquet", stored=0, duplicates=0, refused=0)

    def ingest(self, output: ImportOutput) -> Job:
        """End the oldest queued job with what it wrote."""
        return self._ingest(self._queued().id, output)

    def fail(self) -> Job:
        """Let the oldest queued job die."""
        with self.database.transaction() as session:
            job = session.get_one(Job, self._queued().id)
            job.state = JobState.failed
            job.reason = "the process died three times"
        return job

    def _queued(self) -> Job:
        with self.database.transaction() as session:
            queued = select(Job).join(Import, Import.job_id == Job.id).order_by(Import.id)
            return session.scalars(queued.where(Job.state == JobState.queued)).first() or _none()

    def _ingest(self, job_id: UUID, output: ImportOutput) -> Job:
        with self.database.transaction() as session:
            job = session.get_one(Job, job_id)
        loaded = self.kind.load(job, output)
        with self.database.transaction() as session:
            job = session.get_one(Job, job_id)
            self.kind.ingest(session, job, loaded)
            job.state = JobState.done
        return job


def _none() -> Job:
    raise AssertionError("no import is queued")
