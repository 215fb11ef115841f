"""Bring a database to the newest schema, as its owner, and give the program's role its rights."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

LOCK = 0x6265_6172
"""`bear`: the advisory lock that lets one migration run at a time."""

APPEND_ONLY = ("label_event", "version", "audit_event")
"""What the program's role may add to, and never change or delete."""


def upgrade(owner_url: str, *, program_role: str) -> None:
    """Migrate to head and grant; safe to call again, and from several places at once."""
    engine = create_engine(owner_url)
    with engine.connect() as lock:
        lock.execute(text("select pg_advisory_lock(:key)"), {"key": LOCK})
        command.upgrade(alembic_config(owner_url), "head")
        with engine.begin() as connection:
            _grant(connection, program_role)
    engine.dispose()


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for this database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option(
        "file_template", "%%(year)d%%(month).2d%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s"
    )
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def _grant(connection: Connection, role: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote(role)
    connection.execute(text(f"grant usage on schema public to {quoted}"))
    connection.execute(
        text(f"grant select, insert, update, delete on all tables in schema public to {quoted}")
    )
    connection.execute(text(f"grant usage on all sequences in schema public to {quoted}"))
    for table in APPEND_ONLY:
        connection.execute(text(f"revoke update, delete, truncate on {table} from {quoted}"))
    connection.execute(text(f"revoke insert, update, delete on alembic_version from {quoted}"))
