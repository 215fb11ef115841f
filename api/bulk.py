"""Many rows at once: PostgreSQL's COPY, three times as quick as the quickest insert."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from psycopg import Connection, sql
from sqlalchemy.orm import Session


def copy_rows(
    session: Session, table: str, columns: Sequence[str], *, rows: Iterable[Sequence[object]]
) -> None:
    """Write the rows into a table (temporary ones too) within the session's transaction."""
    # What the session holds back must be there before, as foreign keys may point to it.
    session.flush()
    connection = cast("Connection[Any]", session.connection().connection.driver_connection)
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
