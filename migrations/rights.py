"""What the program's role may do, granted by the owner."""

from sqlalchemy import Connection, text

from migrations.patience import RefusedError

APPEND_ONLY = ("label_event", "version", "audit_event")
"""What the program's role may add to, and never change or delete."""
READ_ONLY = ("alembic_version", "schema_revision")
"""What only migrations write."""


def check_roles(connection: Connection, role: str) -> None:
    """Refuse a program's role that could rewrite the record."""
    if role == connection.scalar(text("select current_user")):
        raise RefusedError(
            f"BEARLOOP_PROGRAM_ROLE {role!r} is the role in BEARLOOP_OWNER_URL: an owner could "
            "change the record of labels; create a second role for the programs and name it"
        )


def missing_role(connection: Connection, role: str) -> str | None:
    """Say what to do about a program's role that the administrator has not made yet."""
    there = connection.scalar(text("select 1 from pg_roles where rolname = :role"), {"role": role})
    if there is not None:
        return None
    return (
        f"BEARLOOP_PROGRAM_ROLE {role!r}: the database has no such role; let its "
        f"administrator run `create role {role} login password …`, or name another one"
    )


def grant(connection: Connection, role: str) -> None:
    """Give the program's role its rights; safe to repeat."""
    quoted = connection.dialect.identifier_preparer.quote(role)
    connection.execute(text(f"grant usage on schema public to {quoted}"))
    connection.execute(
        text(f"grant select, insert, update, delete on all tables in schema public to {quoted}")
    )
    connection.execute(text(f"grant usage on all sequences in schema public to {quoted}"))
    for table in APPEND_ONLY:
        connection.execute(text(f"revoke update, delete, truncate on {table} from {quoted}"))
    for table in READ_ONLY:
        connection.execute(
            text(f"revoke insert, update, delete, truncate on {table} from {quoted}")
        )
