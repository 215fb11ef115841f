"""Make the roles and databases of the chart's own PostgreSQL, once it answers; safe to repeat.

`make_databases.py FOLDER PROGRAM_ROLE`; the folder holds the files admin-url and
{owner,program,mlflow}-password, as a mounted Secret does. The owner migrates, the program's role
works, MLflow has a database of its own; none is a superuser.
"""

import sys
from pathlib import Path

import psycopg
from psycopg import sql

from migrations.upgrade import await_database

OWNER, MLFLOW = "bearloop_owner", "mlflow"
DATABASES = {"bearloop": OWNER, "mlflow": MLFLOW}
"""Database -> the role that owns it."""


def main() -> None:
    """Wait for PostgreSQL, which prepares its volume first, and make what is not there."""
    folder, program_role = Path(sys.argv[1]), sys.argv[2]
    admin_url = await_database(lambda: read(folder / "admin-url"), within=None)
    roles = {OWNER: "owner", program_role: "program", MLFLOW: "mlflow"}
    # CREATE DATABASE runs in no transaction.
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for role, whose in roles.items():
            make_role(connection, role, read(folder / f"{whose}-password"))
        for database, owner in DATABASES.items():
            make_database(connection, database, owner)
        allow(connection, "bearloop", program_role)
    print(f"roles {', '.join(roles)}; databases {', '.join(DATABASES)}")


def read(file: Path) -> str:
    """Read one key of the Secret."""
    return file.read_text().strip()


def make_role(connection: psycopg.Connection, role: str, password: str) -> None:
    """Make the role, or give it the password that the Secret has now."""
    name = sql.Identifier(role)
    found = connection.execute("select 1 from pg_roles where rolname = %s", [role])
    if found.fetchone() is None:
        connection.execute(sql.SQL("create role {} login").format(name))
    change = sql.SQL("alter role {} password {}").format(name, sql.Literal(password))
    connection.execute(change)


def make_database(connection: psycopg.Connection, database: str, owner: str) -> None:
    """Make the database, open to its owner alone."""
    names = {"database": sql.Identifier(database), "owner": sql.Identifier(owner)}
    found = connection.execute("select 1 from pg_database where datname = %s", [database])
    if found.fetchone() is None:
        make = sql.SQL("create database {database} owner {owner}")
        connection.execute(make.format(**names))
    close = sql.SQL("revoke all on database {database} from public")
    connection.execute(close.format(**names))


def allow(connection: psycopg.Connection, database: str, role: str) -> None:
    """Let the role connect, and stage rows in temporary tables; the migrations say the rest."""
    grant = sql.SQL("grant connect, temporary on database {} to {}")
    connection.execute(grant.format(sql.Identifier(database), sql.Identifier(role)))


if __name__ == "__main__":
    main()
