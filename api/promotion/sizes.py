"""How many servers an endpoint has, and how big they are: what goes together, and what does not."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from api.errors import UnprocessableError
from api.jobs.resources import MEMORY

MOST: Final = 100
"""Servers of one endpoint."""
Replicas = Annotated[int, Field(ge=1, le=MOST)]
Cores = Annotated[float, Field(ge=0.1, le=128)]
Memory = Annotated[str, Field(pattern=MEMORY, examples=["1Gi"])]


class SizeError(UnprocessableError):
    """The size that was asked for contradicts itself, or is none that this installation gives."""

    code = "endpoint_size"
    title = "Size of the endpoint"


class Size(BaseModel):
    """The size of an endpoint."""

    model_config = ConfigDict(frozen=True)

    replicas: Replicas = 1
    """Servers at least."""
    most_replicas: Replicas | None = None
    """Servers at most, as many as the load on their CPU needs; null: always `replicas`."""
    cpu: Cores | None = None
    """Cores of each server, and pictures in work at once; null: what the operator set."""
    memory: Memory | None = None
    """Of each server, e.g. `1Gi`; null: what the operator set."""


def check_size(size: Size, *, on_cluster: bool) -> None:
    """Refuse what contradicts itself, and any size where a server is a process; raises SizeError.

    A process of one machine is alone and takes what it needs: a size that does nothing would
    only be believed.
    """
    if size.most_replicas is not None and size.most_replicas < size.replicas:
        raise SizeError(
            f"at most {size.most_replicas} servers are fewer than {size.replicas} at least",
            field="most_replicas",
            value=size.most_replicas,
            way_out=f"ask for {size.replicas} or more, or for null: always {size.replicas}",
        )
    asked = size.model_dump(exclude_defaults=True)
    if asked and not on_cluster:
        field, value = next(iter(asked.items()))
        raise SizeError(
            "this installation runs each endpoint as one process of one machine, whose "
            f"{field} it does not set",
            field=field,
            value=value,
            way_out=f"leave `{field}` out; it takes a cluster",
        )
