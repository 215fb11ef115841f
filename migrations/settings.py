"""What the operator sets for migrations: read once from BEARLOOP_* variables, nowhere else."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Address = Callable[[], str]
"""Says where the database is; asked at each look, as the operator may mend it meanwhile."""


class OwnerSettings(BaseSettings):
    """For `python -m migrations`."""

    model_config = SettingsConfigDict(env_prefix="BEARLOOP_", frozen=True, extra="ignore")

    owner_url: str | None = None
    """PostgreSQL as the role that owns the tables, `postgresql+psycopg://…`; no superuser."""
    owner_url_file: Path | None = None
    """In its place: a file that holds it, and is read at each look."""
    program_role: str = "bearloop"
    """The role of API and worker, which must exist; it gets its rights here."""
    database_wait: timedelta | None = None
    """How long to wait for what the database lacks, and for another migration; unset: no end."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if self.owner_url is None and self.owner_url_file is None:
            raise ValueError("set BEARLOOP_OWNER_URL, or BEARLOOP_OWNER_URL_FILE")
        return self

    def address(self) -> str:
        """Return the address as it is now; raises OSError where its file cannot be read."""
        return _address(self.owner_url, self.owner_url_file)


class ProgramSettings(BaseSettings):
    """For `python -m migrations.wait`."""

    model_config = SettingsConfigDict(env_prefix="BEARLOOP_", frozen=True, extra="ignore")

    database_url: str | None = None
    """PostgreSQL as the program's role."""
    database_url_file: Path | None = None
    """In its place: a file that holds it, and is read at each look."""
    schema_wait: timedelta | None = None
    """How long to wait until the schema is at least this image's own; unset: without end."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if self.database_url is None and self.database_url_file is None:
            raise ValueError("set BEARLOOP_DATABASE_URL, or BEARLOOP_DATABASE_URL_FILE")
        return self

    def address(self) -> str:
        """Return the address as it is now; raises OSError where its file cannot be read."""
        return _address(self.database_url, self.database_url_file)


def _address(url: str | None, file: Path | None) -> str:
    return file.read_text().strip() if file else str(url)
