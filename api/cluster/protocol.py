"""What the worker asks of the place where jobs and endpoints run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol


class InvalidLaunchError(Exception):
    """The cluster refuses a launch today and tomorrow; says why, and whose it is to mend."""


class Phase(StrEnum):
    """Where a job's newest attempt is, as the cluster sees it."""

    pending = "pending"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"


@dataclass(frozen=True)
class JobRequest:
    """One launch of a job."""

    name: str
    """Unique per job and launch, so that creating twice is creating once."""
    program: str
    """`importer` or `trainer`."""
    environment: dict[str, str]
    """As named in `bearloop.contract.environment`, without the attempt, which the cluster adds."""
    gpus: int = 0
    """Of each pod."""
    cpu: float | None = None
    """Cores that each pod asks for; None: what the operator set for the program."""
    memory: str | None = None
    """What each pod asks for, e.g. `8Gi`; None: what the operator set for the program."""
    nodes: int = 1
    """Pods that train one run together, under torchrun."""
    shards: int = 1
    """Pods that share one import's sources."""
    queue: str | None = None
    """Kueue's LocalQueue; None: the scheduler takes it at once."""
    deadline: timedelta | None = None
    """How long a pod may take, from when it has a node: no wait for a GPU or a turn counts."""
    project: str = ""
    """The project's name, for people who look at the cluster."""
    title: str = ""
    """What people call it, e.g. `run 3`."""


@dataclass(frozen=True)
class SeenJob:
    """A job as observed."""

    name: str
    phase: Phase
    exit_code: int | None = None
    """Of an ended attempt; None when it vanished without one."""
    attempt: str | None = None
    reason: str | None = None
    """Why it waits or died, in plain words."""
    disrupted: bool = False
    """The cluster took a pod away, and with it the launch: nothing that the job did."""
    overdue: bool = False
    """It was ended because it took longer than its deadline: another launch would as well."""
    leaving: bool = False
    """One that runs was asked to end: what it still prints goes with it."""


@dataclass(frozen=True)
class DeploymentRequest:
    """What an endpoint (or a candidate under test) should run."""

    name: str
    digest: str
    """The bundle's."""
    environment: dict[str, str]
    """Store address, bundle, and so on."""
    token_hashes: tuple[str, ...] | None = field(default=None)
    """Sha256 (hex) of the valid tokens; None makes it public."""
    replicas: int = 1
    """Servers at least."""
    most_replicas: int = 1
    """Servers at most; more than `replicas` lets it scale with its CPU load."""
    cpu: float | None = None
    """Cores of each server, request and limit, which give its number of threads; None: what the
    operator set."""
    memory: str | None = None
    """Of each server, request and limit; None: what the operator set."""
    project: str = ""
    """The project's name, for people who look at the cluster."""
    title: str = ""
    """What people call it, e.g. `endpoint bears`."""


@dataclass(frozen=True)
class SeenDeployment:
    """A deployment as observed."""

    name: str
    digest: str
    """The bundle of the newest request that the cluster took."""
    ready: bool
    """All of the newest bundle's servers answer."""
    url: str | None
    reason: str | None = None
    """Why it is not as asked for; one that is ready has one when a change was refused."""
    refused: bool = False
    """The server itself refuses this bundle (exit code 42): it will not do better next time."""


class Cluster(Protocol):
    """Jobs and deployments by name; every call may be repeated without harm."""

    def launch(self, request: JobRequest) -> None:
        """Create the job; one of the same name that is there already is left as it is.

        Raises InvalidLaunchError where another try would be refused as well.
        """
        ...

    def jobs(self) -> list[SeenJob]:
        """List every job that bearloop launched here and did not remove."""
        ...

    def job(self, name: str) -> SeenJob | None:
        """Observe one job; None when there is none of this name."""
        ...

    def remove(self, name: str) -> None:
        """End the job if it runs (politely, then by force) and forget it."""
        ...

    def logs(self, name: str) -> Mapping[str, str]:
        """Return what each of the job's pods or processes printed that is still there.

        By a name that stays the same for each of them; oldest first, by name too.
        """
        ...

    def deploy(self, request: DeploymentRequest) -> None:
        """Roll the deployment out, or over to another bundle, without a dropped request."""
        ...

    def deployment(self, name: str) -> SeenDeployment | None:
        """Observe one deployment; None when there is none of this name."""
        ...

    def deployments(self) -> list[str]:
        """List the names of all that bearloop deployed here and did not undeploy."""
        ...

    def undeploy(self, name: str) -> None:
        """Remove the deployment."""
        ...

    def wait(self, timeout: timedelta) -> None:
        """Return as soon as something may have changed, or after `timeout`."""
        ...

    def wake(self) -> None:
        """Make the present `wait`, or else the next one, return; for other threads."""
        ...

    def changed(self) -> set[str]:
        """Return the names of jobs (and of deployments) heard to have changed since last asked."""
        ...
