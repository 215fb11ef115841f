"""What the job is told by its environment; the only reader of it."""

from collections.abc import Mapping
from os import environ

from pydantic import BaseModel, ConfigDict

from bearloop.contract import environment


class Settings(BaseModel):
    """Where the job's mailbox is, and what it may read."""

    model_config = ConfigDict(frozen=True)

    store_url: str
    """Store address with the project's prefix."""
    job: str
    """The job's id, which names its mailbox."""
    attempt: str
    """A pod's uid, or a uuid for a process."""
    source_prefixes: tuple[str, ...] | None = None
    """Addresses below which folders may be read; None allows any."""
    shard: int = 0
    """Which of the job's pods this is."""
    shards: int = 1
    """Pods that share the source's lines."""


class MissingVariableError(Exception):
    """The job was started without a variable that it cannot do without."""


def read_settings(variables: Mapping[str, str] = environ) -> Settings:
    """Read the environment; raises MissingVariableError."""
    names = (environment.STORE_URL, environment.JOB, environment.ATTEMPT)
    missing = [name for name in names if not variables.get(name)]
    if missing:
        raise MissingVariableError(f"the import job needs {', '.join(missing)} in its environment")
    prefixes = variables.get(environment.SOURCE_PREFIXES)
    return Settings(
        store_url=variables[environment.STORE_URL],
        job=variables[environment.JOB],
        attempt=variables[environment.ATTEMPT],
        source_prefixes=None if prefixes is None else tuple(prefixes.split()),
        shard=int(variables.get(environment.INDEX) or 0),
        shards=int(variables.get(environment.SHARDS) or 1),
    )
