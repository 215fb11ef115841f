"""What an endpoint and a candidate should run, as values; names come from ids, once for ever."""

from collections.abc import Iterable
from dataclasses import dataclass

from api.cluster.protocol import DeploymentRequest
from bearloop.contract.environment import BUNDLE, STORE_URL


def endpoint_deployment(name: str, endpoint_id: int) -> str:
    """Name the endpoint's deployment: two projects may each have an endpoint of one name."""
    return f"{name}-{endpoint_id}"


def candidate_deployment(promotion_id: int) -> str:
    """Name the deployment that is asked before a promotion; an endpoint's name ends otherwise."""
    return f"candidate-{promotion_id}-check"


@dataclass(frozen=True)
class Named:
    """A deployment, how big it should be, and what people call it."""

    name: str
    title: str
    project: str
    replicas: int = 1
    most_replicas: int | None = None
    """None: as many as `replicas`."""
    cpu: float | None = None
    memory: str | None = None


def deployment_request(
    named: Named, bundle: str, *, store_url: str, token_hashes: Iterable[str] | None
) -> DeploymentRequest:
    """Ask for servers of one bundle, `bundles/<digest>/`; `token_hashes` None: anybody may ask."""
    return DeploymentRequest(
        name=named.name,
        digest=bundle.rstrip("/").rpartition("/")[2],
        environment={STORE_URL: store_url, BUNDLE: bundle},
        token_hashes=None if token_hashes is None else tuple(sorted(token_hashes)),
        replicas=named.replicas,
        most_replicas=named.most_replicas or named.replicas,
        cpu=named.cpu,
        memory=named.memory,
        project=named.project,
        title=named.title,
    )
