"""Where a training job finds its store, its mailbox and room for decoded pictures."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bearloop.contract import environment


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


def read_settings() -> Settings:
    """Read the job's environment; raises SettingsError."""
    return Settings(
        store_url=_required(environment.STORE_URL),
        job=_required(environment.JOB),
        attempt=_required(environment.ATTEMPT),
    )


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


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingsError(
            f"{name} is not set; the worker sets it, and `--spec FILE --store URL` needs none"
        )
    return value
