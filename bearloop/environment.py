"""The only reader of the environment in what users install."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class UserEnvironment:
    """What a user's shell says to the CLI."""

    url: str | None
    """BEARLOOP_URL: the API's address."""
    token: str | None
    """BEARLOOP_TOKEN"""
    project: str | None
    """BEARLOOP_PROJECT"""
    login_file: Path
    """Written by `bearloop login`, mode 0600."""
    folder: Path
    """BEARLOOP_FOLDER: where `bearloop up` keeps its data."""
    database_url: str | None
    """BEARLOOP_DATABASE_URL: a PostgreSQL of one's own, as the owner, in place of the embedded."""
    store_url: str | None
    """BEARLOOP_STORE_URL: where `bearloop up` keeps images and models, in place of its folder;
    `s3://bucket/prefix` takes the server and the keys from AWS_*."""


def read_environment() -> UserEnvironment:
    """Read the variables that the CLI knows."""
    get = os.environ.get
    config = Path(get("XDG_CONFIG_HOME") or Path.home() / ".config")
    data = Path(get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return UserEnvironment(
        url=get("BEARLOOP_URL"),
        token=get("BEARLOOP_TOKEN"),
        project=get("BEARLOOP_PROJECT"),
        login_file=config / "bearloop" / "login.json",
        folder=Path(get("BEARLOOP_FOLDER") or data / "bearloop").absolute(),
        database_url=get("BEARLOOP_DATABASE_URL"),
        store_url=get("BEARLOOP_STORE_URL"),
    )


def child_environment(changes: dict[str, str]) -> dict[str, str]:
    """Return the environment for a program that is started, with these variables set."""
    return {**os.environ, **changes}
