"""What the life of a job adds for a run: its place in MLflow, its report, its model version."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.database import Database
from api.jobs.states import JobState
from api.tables import Dataset, Job, Report, Run, Version
from api.tracking import EndStatus, TrackingServer, model_name
from bearloop.contract.imports import ImportOutput
from bearloop.contract.runs import RunOutput, RunSpec, Tracking

ENDS: dict[JobState, EndStatus] = {
    JobState.done: "FINISHED",
    JobState.failed: "FAILED",
    JobState.cancelled: "KILLED",
}
"""How MLflow calls the ends."""


@dataclass(frozen=True)
class Loaded:
    """What a finished run leaves for the tables."""

    output: RunOutput
    mlflow_version: str | None


@dataclass(frozen=True)
class _About:
    """What the run is about, in words."""

    number: int
    dataset: str
    version: int
    created_by: str
    mlflow_run_id: str | None


class RunKind:
    """Implements `api.jobs.kinds.JobKind` for runs."""

    name = "run"
    program = "trainer"

    def __init__(self, database: Database, tracking: TrackingServer) -> None:
        self._database = database
        self._tracking = tracking

    def prepare(self, job: Job) -> RunSpec:
        spec, about = RunSpec.model_validate(job.spec), self._about(job)
        made = self._tracking.ensure_run(
            spec.project,
            str(job.id),
            name=_name(spec, about),
            tags=_tags(spec, about),
            first=about.mlflow_run_id is None,
        )
        with self._database.transaction() as session:
            session.execute(
                update(Run)
                .where(Run.job_id == job.id)
                .values(mlflow_run_id=made.run_id, mlflow_experiment_id=made.experiment_id)
            )
        tracked = Tracking(run_id=made.run_id, experiment=spec.project)
        return spec.model_copy(update={"tracking": tracked})

    def load(self, job: Job, output: ImportOutput | RunOutput) -> Loaded:
        assert isinstance(output, RunOutput)
        about, project = self._about(job), RunSpec.model_validate(job.spec).project
        if about.mlflow_run_id is None or output.mlflow_model is None:
            return Loaded(output, None)
        registered = self._tracking.register_model(
            about.mlflow_run_id, output.bundle_digest, name=model_name(project, about.dataset)
        )
        return Loaded(output, registered)

    def ingest(self, session: Session, job: Job, loaded: Any) -> None:
        assert isinstance(loaded, Loaded)
        output = loaded.output
        run_id = session.execute(
            update(Run)
            .where(Run.job_id == job.id)
            .values(
                device=output.device,
                seconds=output.seconds,
                cost=None if output.cost is None else output.cost.model_dump(mode="json"),
                bundle_digest=output.bundle_digest,
                curves_key=output.curves_key,
                mlflow_version=loaded.mlflow_version,
            )
            .returning(Run.id)
        ).scalar_one()
        session.execute(
            insert(Report).values(
                run_id=run_id,
                summary=output.summary.model_dump(mode="json"),
                loss_key=output.report_keys["loss"],
                label_issue_key=output.report_keys["label_issue"],
            )
        )

    def settle(self, job: Job, state: JobState) -> None:
        run_id = self._about(job).mlflow_run_id
        if run_id is not None:  # none: it was cancelled before its first launch
            self._tracking.end_run(run_id, ENDS[state])

    def _about(self, job: Job) -> _About:
        with self._database.transaction() as session:
            row = session.execute(
                select(Run.number, Dataset.name, Version.number, Run.created_by, Run.mlflow_run_id)
                .join(Version, Version.id == Run.version_id)
                .join(Dataset, Dataset.id == Version.dataset_id)
                .where(Run.job_id == job.id)
            ).one()
        return _About(*row)


def _name(spec: RunSpec, about: _About) -> str:
    what = f"{about.dataset} v{about.version}, {spec.recipe.name}, seed {spec.seed}"
    return f"run {about.number}: {what}"


def _tags(spec: RunSpec, about: _About) -> dict[str, str]:
    return {
        "bearloop.project": spec.project,
        "bearloop.run": str(about.number),
        "bearloop.dataset": about.dataset,
        "bearloop.dataset_version": str(about.version),
        "bearloop.version": spec.version_digest,
        "bearloop.recipe": spec.recipe.digest(),
        "bearloop.recipe_name": spec.recipe.name,
        # What MLflow's own pages show as "Created by" and "Source".
        "mlflow.user": about.created_by,
        "mlflow.source.name": f"bearloop {spec.code_version}",
        "mlflow.source.type": "JOB",
    }
