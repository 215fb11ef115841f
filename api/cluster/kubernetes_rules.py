"""What the operator says of pods: the file `cluster.json` that the chart writes, typed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PodRules(_Closed):
    """How the pods of one program look."""

    image: str
    """Full name with tag or digest."""
    secrets: tuple[str, ...]
    """Secrets whose keys become environment variables: the store's credentials of this identity."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Further variables, e.g. `AWS_ENDPOINT_URL` or a proxy."""
    ca_bundle: str | None = None
    """ConfigMap whose `ca.crt` holds all certificates that are trusted; None: the image's own."""
    cpu: float = Field(gt=0)
    """Cores of one pod."""
    memory: str
    """Of one pod, e.g. `4Gi`."""
    shared_memory: str | None = None
    """Size of /dev/shm, e.g. `1Gi`; None: the runtime's 64 MiB."""
    scratch: str = "10Gi"
    """Size of the folder that the read-only pods may write to."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = Field(default_factory=dict)
    priority_class: str | None = None
    runtime_class: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)


class ServerRules(PodRules):
    """How the servers of endpoints look and scale."""

    port: int = 8080
    target_cpu: int = Field(default=70, ge=1, le=100)
    """Mean use of the requested CPU, in per cent, at which one more server starts."""
    scale_in_after: timedelta = Field(
        default=timedelta(minutes=5), ge=timedelta(0), le=timedelta(hours=1)
    )
    """How long the load must be low before a server that is not needed any more ends; Kubernetes
    takes no more than an hour."""
    topology_spread: tuple[dict[str, Any], ...] = ()
    """Kubernetes' constraints; empty: over the nodes as far as that is possible."""


class KubernetesRules(_Closed):
    """How jobs and endpoints run in one namespace."""

    namespace: str
    release: str
    """The Helm release: the value of `app.kubernetes.io/instance` on all that is made."""
    owner: str
    """The ConfigMap that owns what the worker makes, so that uninstalling leaves nothing."""
    endpoints_outlive: bool = False
    """True: endpoints have no owner, and answer on after an uninstall."""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    service_account: str
    """Of jobs and servers; it has no rights, and its token is not mounted."""
    gpu_resource: str = "nvidia.com/gpu"
    reads_nodes: bool = True
    """Whether the worker may list nodes, to say how many GPUs there are in all."""
    grace: timedelta = timedelta(seconds=120)
    """Between SIGTERM and SIGKILL: a checkpoint must fit into it."""
    importer: PodRules
    trainer: PodRules
    inference: ServerRules


def read_rules(path: Path) -> KubernetesRules:
    """Read the file; raises pydantic's ValidationError, which names every wrong field."""
    return KubernetesRules.model_validate_json(path.read_bytes())
