"""The part of the schema's history that lies in the database itself."""

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert

from api.tables import SchemaRevision
from migrations.history import History, Revision


def record(connection: Connection, history: History) -> None:
    """Write down what this image's history added; part of the transaction that migrates."""
    rows = [step._asdict() for step in history.steps]
    connection.execute(insert(SchemaRevision).values(rows).on_conflict_do_nothing())


def read_recorded(connection: Connection) -> list[Revision]:
    """Read the recorded revisions in order; none when the table is not there yet."""
    if not _has(connection, SchemaRevision.__tablename__):
        return []
    columns = (SchemaRevision.number, SchemaRevision.revision, SchemaRevision.serves)
    rows = connection.execute(select(*columns).order_by(SchemaRevision.number))
    return [Revision(*row) for row in rows]


def read_current(connection: Connection) -> str | None:
    """Read the present revision; None for an empty database."""
    if not _has(connection, "alembic_version"):
        return None
    found: str | None = connection.scalar(text("select version_num from alembic_version"))
    return found


def _has(connection: Connection, table: str) -> bool:
    return connection.scalar(text("select to_regclass(:name)"), {"name": table}) is not None
