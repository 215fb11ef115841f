"""A project with one run that MLflow knows, as its job leaves it."""

from pathlib import Path
from uuid import uuid4

from mlflow import MlflowClient
from sqlalchemy import select

from api.database import Database
from api.tables import Dataset, Job, Project, Run, Version
from api.tracking import TrackingServer, model_name

DIGEST = "ab" * 32


class Tracked:
    """What MLflow holds of a project."""

    def __init__(self, database: Database, url: str, name: str, *, folder: Path) -> None:
        server, job = TrackingServer(url), uuid4()
        made = server.ensure_run(name, str(job), name=f"run of {name}", tags={})
        self.name, self.run, self.experiment = name, made.run_id, made.experiment_id
        self.model = model_name(name, "bears")
        client = MlflowClient(url)
        for step in range(5):
            client.log_metric(self.run, "loss", 1 / (step + 1), step=step)
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "MLmodel").write_text(f"flavors: {{}}\nrun_id: {self.run}\n")
        (folder / "page.html").write_text("<script>alert(1)</script>")
        client.log_artifacts(self.run, str(folder))
        self.version = server.register_model(self.run, uuid4().hex, name=self.model)
        self._remember(database, Job(id=job, kind="run", spec={}))

    def _remember(self, database: Database, job: Job) -> None:
        with database.transaction() as session:
            project = session.scalars(select(Project).where(Project.name == self.name)).one()
            job.project_id = project.id
            dataset = Dataset(project_id=project.id, name="bears", created_by="admin")
            session.add_all([job, dataset])
            session.flush()
            version = Version(
                dataset_id=dataset.id,
                number=1,
                digest=DIGEST,
                classes=[],
                counts={},
                manifest_key="versions/1",
                created_by="admin",
            )
            session.add(version)
            session.flush()
            run = Run(
                project_id=project.id,
                number=1,
                version_id=version.id,
                recipe="fine-tune",
                recipe_digest=DIGEST,
                seed=1,
                job_id=job.id,
                mlflow_run_id=self.run,
                mlflow_experiment_id=self.experiment,
                created_by="admin",
            )
            session.add(run)
