"""Make the roles and databases of the chart's own PostgreSQL; safe to repeat.

The owner migrates, the program's role works, MLflow has a database of its own; none is a superuser.
"""

import os
import sys
import time

import psycopg
from psycopg import sql

LIMIT = 300.0
"""Seconds until PostgreSQL must answer."""
PAUSE = 1.0
OWNER, MLFLOW = "bearloop_owner", "mlflow"
DATABASES = {"bearloop": OWNER, "mlflow": MLFLOW}
"""Database -> the role that owns it."""


def main() -> None:
    """Read ADMIN_URL, PROGRAM_ROLE and {OWNER,PROGRAM,MLFLOW}_PASSWORD."""
    told = os.environ
    roles = {
        OWNER: told["OWNER_PASSWORD"],
        told["PROGRAM_ROLE"]: told["PROGRAM_PASSWORD"],
        MLFLOW: told["MLFLOW_PASSWORD"],
    }
    with connected(told["ADMIN_URL"]) as connection:
        for role, password in roles.items():
            make_role(connection, role, password)
        for database, owner in DATABASES.items():
            make_database(connection, database, owner)
        allow(connection, "bearloop", told["PROGRAM_ROLE"])
    print(f"roles {', '.join(roles)}; databases {', '.join(DATABASES)}")


def connected(url: str) -> psycopg.Connection:
    """Connect as soon as it answers: it prepares its volume at the first start."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            # CREATE DATABASE runs in no transaction.
            return psycopg.connect(url, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                sys.exit(f"PostgreSQL did not answer within {LIMIT:.0f} s: {error}")
            time.sleep(PAUSE)


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
