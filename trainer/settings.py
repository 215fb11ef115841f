"""Where a training job finds its store, its mailbox and room for decoded pictures."""

import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from bearloop.contract import environment

COLLECTIVE_TIMEOUT: Final = timedelta(minutes=10)
"""A checkpoint of the first process, and MLflow's tries, must fit into it."""


class SettingsError(Exception):
    """The program was started without what it needs; names the variable."""


@dataclass(frozen=True)
class Settings:
    """What the worker tells a job through its environment."""

    store_url: str
    """Store address with the project's prefix."""
    job: str
    """Names the mailbox."""
    attempt: str
    """Of this process or pod."""


@dataclass(frozen=True)
class NodeSettings:
    """Where this pod stands among those of its job."""

    master: str | None
    """Host name of the first one; None: all processes of the run are here."""
    index: int
    timeout: timedelta
    """How long processes wait for each other."""


@dataclass(frozen=True)
class RankSettings:
    """What torchrun tells a process of this node."""

    node: NodeSettings
    local: int
    """Which of this node's processes it is."""
    local_count: int


def read_settings() -> Settings:
    """Read the job's environment; raises SettingsError."""
    return Settings(
        store_url=_required(environment.STORE_URL),
        job=_required(environment.JOB),
        attempt=_required(environment.ATTEMPT),
    )


def read_node() -> NodeSettings:
    """Read what the cluster tells each pod of a job; raises SettingsError."""
    master, index = os.environ.get(environment.MASTER), os.environ.get(environment.INDEX, "0")
    return NodeSettings(master or None, int(index), _collective_timeout())


def read_rank() -> RankSettings | None:
    """Read what torchrun tells its processes; None: this is none of them."""
    if "LOCAL_RANK" not in os.environ:
        return None
    local, count = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return RankSettings(read_node(), local, count)


def torchrun_name() -> str | None:
    """Return the name that all processes of one torchrun share."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def share_cores(processes: int) -> None:
    """Let the processes of one machine share its cores, unless somebody said otherwise."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def scratch_limit() -> int | None:
    """Return how many bytes the folder of temporary files may hold; None: nobody counts them."""
    told = os.environ.get(environment.SCRATCH_LIMIT)
    return int(told) if told else None


def cache_folder() -> Path:
    """Return the folder for decoded pictures, which may outlive the run."""
    named = os.environ.get(environment.CACHE)
    if named:
        return Path(named)
    # One per user: on a shared machine another's folder could not be written.
    return Path(tempfile.gettempdir()) / f"bearloop-cache-{os.getuid()}"


def ask_for_determinism() -> None:
    """Let cuBLAS give equal bits in equal runs; it reads this when CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _collective_timeout() -> timedelta:
    given = os.environ.get(environment.COLLECTIVE_TIMEOUT)
    return COLLECTIVE_TIMEOUT if not given else timedelta(seconds=int(given))


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingsError(
            f"{name} is not set; the worker sets it, and `--spec FILE --store URL` needs none"
        )
    return value
