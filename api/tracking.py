"""MLflow as the control plane uses it: runs found again by tag, ends told, models registered once.

Every call may be repeated; a foreign exception leaves as `TrackingError`, which names the server.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bearloop.mlflow_pages import VIEW, run_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOB = "bearloop.job"
"""Tag of a run: the job's id. A job has one run, however often the worker asks."""
BUNDLE = "bearloop.bundle"
"""Tag of a model version: the bundle's digest. Equal bundles are one version."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment: MLflow's pages open it as model training, and not as GenAI."""
MODEL_PATH = "model"
"""Where the trainer puts the ONNX-flavour model in the run's artifacts."""
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(Exception):
    """MLflow did not do what it was asked: says what, and which server."""


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run."""

    run_id: str
    experiment_id: str


class TrackingServer:
    """One MLflow server."""

    def __init__(self, url: str) -> None:
        """Take the address; nothing is asked before the first call."""
        self.url = url
        self._opened: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        """Name -> id of those that were seen."""

    def open(self) -> None:
        """Load MLflow's client; it takes a second, which the first call takes otherwise."""
        _ = self._client

    def ensure_run(
        self,
        experiment: str,
        job: str,
        *,
        name: str,
        tags: Mapping[str, str],
        first: bool = False,
    ) -> TrackedRun:
        """Return the job's run in the project's experiment; make it when there is none.

        `first`: nobody is known to have asked before, so that looking for it can wait.
        """
        with self._asking(f"make the run of job {job}"):
            experiment_id = self._experiment(experiment)
            found = None if first else self._run_of(experiment_id, job)
            if found is None:
                found = self._create_run(experiment, job, name=name, tags=tags)
            return TrackedRun(found, experiment_id)

    def end_run(self, run_id: str, status: EndStatus) -> None:
        """Mark the run as ended so; one that somebody deleted is let be."""
        from mlflow.exceptions import MlflowException

        with self._asking(f"end the run {run_id}"):
            try:
                self._client.set_terminated(run_id, status)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise

    def register_model(self, run_id: str, bundle_digest: str, *, name: str) -> str:
        """Return the model version of the bundle; register the run's model when there is none."""
        with self._asking(f"register the model of run {run_id}"):
            self._ensure_model(name)
            found = self._version_of(name, bundle_digest)
            if found is None:
                source = f"runs:/{run_id}/{MODEL_PATH}"
                tags = {BUNDLE: bundle_digest}
                self._client.create_model_version(
                    name, source, run_id=run_id, tags=tags, await_creation_for=0
                )
                found = self._version_of(name, bundle_digest)
            if found is None:
                raise TrackingError(f"MLflow at {self.url} forgot a version of {name} at once")
            return found

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """Return the address of the run's page."""
        return run_page(self.url, experiment_id, run_id)

    @property
    def _client(self) -> "MlflowClient":
        if self._opened is None:
            from mlflow import MlflowClient

            self._opened = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._opened

    def _create_run(self, experiment: str, job: str, *, name: str, tags: Mapping[str, str]) -> str:
        # Whoever deleted the experiment meanwhile is told so by the next try.
        experiment_id = self._experiments.pop(experiment)
        given = {**tags, JOB: job}
        made = self._client.create_run(experiment_id, run_name=name, tags=given).info.run_id
        self._experiments[experiment] = experiment_id
        # Of all that workers made, at once or before they were killed, each takes the oldest.
        oldest = self._run_of(experiment_id, job)
        if oldest is None:
            raise TrackingError(f"MLflow at {self.url} forgot the run of job {job} at once")
        if oldest != made:
            self._client.delete_run(made)
        return oldest

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._make_experiment(name)
        return self._experiments[name]

    def _make_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, tags=KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # Another worker made it since.
            found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow at {self.url}: the experiment {name!r} was deleted there; restore it"
            )
        return str(found.experiment_id)

    def _run_of(self, experiment_id: str, job: str) -> str | None:
        found = self._client.search_runs([experiment_id], f"tags.`{JOB}` = '{job}'")
        oldest = sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))
        return str(oldest[0].info.run_id) if oldest else None

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version_of(self, name: str, bundle_digest: str) -> str | None:
        wanted = f"name = '{name}' and tags.`{BUNDLE}` = '{bundle_digest}'"
        found = self._client.search_model_versions(wanted)
        return str(min(int(one.version) for one in found)) if found else None

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            yield
        except (MlflowException, RequestException, OSError) as error:
            raise TrackingError(f"MLflow at {self.url} did not {what}: {_short(error)}") from error


def model_name(project: str, dataset: str) -> str:
    """Return the registered model's name: one project's alone, as projects' names hold no dot."""
    return f"{project}.{dataset}"


def run_page(url: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page in MLflow's pages."""
    return f"{url.rstrip('/')}/{run_place(experiment_id, run_id)}{VIEW}"


def _short(error: Any) -> str:
    text = str(error)
    return text if len(text) <= 300 else text[:297] + "..."
