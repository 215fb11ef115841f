"""What the operator sets for migrations: read once from BEARLOOP_* variables, nowhere else."""

from datetime import timedelta

from pydantic_settings import BaseSettings, SettingsConfigDict


class OwnerSettings(BaseSettings):
    """For `python -m migrations`."""

    model_config = SettingsConfigDict(env_prefix="BEARLOOP_", frozen=True, extra="ignore")

    owner_url: str
    """PostgreSQL as the role that owns the tables, `postgresql+psycopg://…`; no superuser."""
    program_role: str = "bearloop"
    """The role of API and worker, which must exist; it gets its rights here."""
    database_wait: timedelta = timedelta(minutes=5)
    """How long to wait for a database that is not there yet, and for another migration."""


class ProgramSettings(BaseSettings):
    """For `python -m migrations.wait`."""

    model_config = SettingsConfigDict(env_prefix="BEARLOOP_", frozen=True, extra="ignore")

    database_url: str
    """PostgreSQL as the program's role."""
    schema_wait: timedelta = timedelta(minutes=10)
    """How long to wait until the schema is at least this image's own."""
