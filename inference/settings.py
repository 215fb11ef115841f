"""What the server is told; the one place that reads the environment."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bearloop.contract.environment import BUNDLE, ENDPOINT_TOKENS, LINGER, STORE_URL, THREADS
from bearloop.preprocess import MAX_PIXELS

VARIABLES = {
    "store_url": STORE_URL,
    "bundle": BUNDLE,
    "tokens_file": ENDPOINT_TOKENS,
    "classify_url": "BEARLOOP_CLASSIFY_URL",
    "allow_private_addresses": "BEARLOOP_ALLOW_PRIVATE_ADDRESSES",
    "max_bytes": "BEARLOOP_MAX_BYTES",
    "max_pixels": "BEARLOOP_MAX_PIXELS",
    "threads": THREADS,
    "queue": "BEARLOOP_QUEUE",
    "requests": "BEARLOOP_REQUESTS",
    "linger": LINGER,
}
"""Field to variable; one that is unset or empty leaves the field's default."""


class SettingsError(Exception):
    """A variable of the environment is missing or wrong: which one, its value, the way out."""


class Settings(BaseModel):
    """Everything that the server can be told, but its address."""

    model_config = ConfigDict(frozen=True)

    store_url: str
    """`file:///…` or `s3://bucket/prefix`, with the project's prefix."""
    bundle: str
    """`bundles/<digest>/` below the store address."""
    tokens_file: Path | None = None
    """One sha256 (hex) of a valid token per line; None: the endpoint is public."""
    classify_url: bool | None = None
    """Whether addresses are fetched; None: on a private endpoint yes, on a public one no."""
    allow_private_addresses: bool = False
    """True only in closed networks whose operator says so."""
    max_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    """Of one request's body."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    """Width times height of one picture."""
    threads: int | None = Field(default=None, ge=1)
    """CPUs to use, and pictures in work at once; None: as many as the CPU limit allows."""
    queue: int = Field(default=32, ge=0)
    """Pictures that may wait; one more is answered with 503."""
    requests: int = Field(default=1024, ge=1)
    """Requests that may be open at once, their bodies on the way or not; one more is answered with
    503, but for those of probes and Prometheus."""
    linger: timedelta = timedelta(seconds=0.5)
    """How long connections are still taken after SIGTERM, while the traffic moves elsewhere."""

    @property
    def fetches(self) -> bool:
        """Whether `/classify-url` is there."""
        if self.classify_url is not None:
            return self.classify_url
        return self.tokens_file is not None


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment; raises SettingsError."""
    values: dict[str, Any] = {
        field: environment[name] for field, name in VARIABLES.items() if environment.get(name)
    }
    if "linger" in values:
        values["linger"] = _seconds(values["linger"])
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_told(entry) for entry in error.errors())) from error


def _seconds(text: str) -> timedelta | str:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        return text


def _told(entry: Any) -> str:
    variable = VARIABLES[str(entry["loc"][0])]
    if entry["type"] == "missing":
        return f"{variable} is not set"
    return f"{variable} is {entry['input']!r}: {entry['msg']}"
