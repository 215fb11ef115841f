"""What the operator sets: read once from BEARLOOP_* variables, nowhere else."""

from datetime import timedelta
from functools import cache
from os import environ
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.database import CONNECTIONS


class Settings(BaseSettings):
    """The control plane's settings."""

    model_config = SettingsConfigDict(
        env_prefix="BEARLOOP_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # the database's password is among it
    )

    database_url: str
    """PostgreSQL as the program's role, `postgresql+psycopg://…`."""
    database_connections: int = Field(CONNECTIONS, ge=2)
    """Connections to the database that one process opens at most; requests wait for a free one."""
    store_url: str
    """`file:///folder` or `s3://bucket/prefix`."""
    tracking_url: str
    """MLflow's server as jobs and the worker reach it, `http://…`."""
    tracking_pages: str | None = None
    """Where people find MLflow's pages, e.g. the API's own `/mlflow`; None: at `tracking_url`."""
    public_url: str | None = None
    """The API's address in the world; where it is https, the pages' cookie is for https alone."""
    mlflow_username: str | None = Field(None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """For a server with a sign-in of its own, as MLflow's client reads it; so are the next two."""
    mlflow_password: str | None = Field(None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    mlflow_token: str | None = Field(None, validation_alias="MLFLOW_TRACKING_TOKEN")
    cluster: str = "processes"
    """`processes` on one machine, `kubernetes` in a cluster."""
    cluster_file: str | None = None
    """In a cluster: the file that says how pods look, see `api/cluster/kubernetes_rules.py`."""
    work_folder: str
    """Folder for job logs and caches (processes), or scratch space."""
    local: bool = False
    """True under `bearloop up`: members may name `file:` addresses on this machine."""
    allow_private_addresses: bool = False
    """Let imports fetch from private addresses; only for closed networks and tests."""
    max_upload: int = 4 * 1024**3
    """Most bytes of one uploaded zip."""
    import_shards: int = 8
    """Pods of a cluster that share one import at most."""
    sources_per_shard: int = 20_000
    """Sources of an import that are worth a pod more."""
    lease: timedelta = timedelta(seconds=60)
    """How long a worker may hold what it claimed."""
    poll: timedelta = timedelta(seconds=0.5)
    """How often the worker looks at what it cannot be woken for."""
    call_deadline: timedelta = timedelta(seconds=10)
    """A launch is made only while the lease, which is longer, outlasts a call of this length."""
    sweep: timedelta = timedelta(seconds=30)
    """How often all that is on the cluster is compared with the tables."""
    max_crashes: int = 3
    """Crashed launches after which a job has failed."""
    processes_at_once: int = 1
    """Training jobs that run at once as processes of one machine; imports run beside them."""
    stop_grace: timedelta = timedelta(seconds=30)
    """Between the polite end of a process (SIGTERM) and the forced one."""
    mlflow_timeout: timedelta = timedelta(seconds=10)
    """How long the worker waits for one answer of MLflow."""
    roll_out: timedelta = timedelta(minutes=5)
    """How long a bundle may take, as candidate and again as endpoint, until it answers."""
    endpoint_poll: timedelta = timedelta(seconds=10)
    """How often an endpoint that is as it should be is looked at."""
    screen_lease: timedelta = timedelta(minutes=15)
    """How long a reviewer's claimed screen stays theirs."""

    @property
    def pages_of_runs(self) -> str:
        """Return the address below which MLflow's pages of runs lie."""
        return self.tracking_pages or self.tracking_url

    @model_validator(mode="after")
    def _lets_the_worker_work(self) -> Self:
        """Refuse spans of time by which nothing would ever be launched, or nobody would rest."""
        for name in ("lease", "poll", "call_deadline", "sweep", "endpoint_poll"):
            span = getattr(self, name)
            if span <= timedelta(0):
                way_out = f"set BEARLOOP_{name.upper()} to more, e.g. PT1M, or leave it out"
                raise ValueError(f"`{name}` is {span}, and must be longer than nothing: {way_out}")
        if self.call_deadline >= self.lease:
            raise ValueError(
                f"`call_deadline` is {self.call_deadline} and `lease` {self.lease}: no lease would "
                "outlast a call, so nothing would ever be launched; set BEARLOOP_LEASE to more, or "
                "BEARLOOP_CALL_DEADLINE to less"
            )
        return self


PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_", "TZ", "TMPDIR", "PYTHON", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "AWS_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY"),
    *("NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "XDG_", "CUDA_", "NVIDIA_", "TORCH_"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MLFLOW_TRACKING_USERNAME"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_INSECURE_TLS"),
)
"""How the names begin of what a job may inherit: never the database's or the API's secrets."""


def inherited_environment() -> dict[str, str]:
    """Return what processes that this one starts inherit of its environment."""
    return {name: value for name, value in environ.items() if name.startswith(PASSED_ON)}


def limit_mlflow(timeout: timedelta) -> None:
    """Bound what MLflow's client may take: it can be told by its own variables only."""
    environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, int(timeout.total_seconds())))
    # A step that fails is made again anyway, after a pause and without holding its claim.
    environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"


@cache
def settings() -> Settings:
    """Read the environment, once."""
    return Settings()
