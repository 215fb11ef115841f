"""The databases that the README tells an operator to make are what the migrations need."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from bearloop.embedded_postgres import EmbeddedPostgres
from migrations.upgrade import upgrade
from tests.chart.chart import CHART

README = CHART.parents[1] / "README.md"


@pytest.fixture
def administrator(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """Who may make roles and databases, and is no superuser: as in a managed PostgreSQL."""
    with connected(postgres, "postgres", role="postgres") as root:
        root.execute("create role operator login createrole createdb")
    with connected(postgres, "postgres", role="operator") as operator:
        yield operator


def test_the_readmes_sql_should_be_all_that_the_migrations_need(
    postgres: EmbeddedPostgres, administrator: psycopg.Connection
) -> None:
    (block,) = re.findall(r"^```sql\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    # Under other names: the server of the tests has roles of these.
    plain = re.sub("--.*", "", block).replace("bearloop", "ours").replace("mlflow", "theirs")
    for statement in plain.split(";"):
        administrator.execute(statement.encode())
    upgrade(postgres.url("ours", role="ours_owner"), program_role="ours")

    with connected(postgres, "ours", role="ours") as program:
        program.execute("create temporary table ledger (line int)")
        assert program.execute("select count(*) from project").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            program.execute("delete from label_event")
    with connected(postgres, "theirs", role="theirs") as tracking:
        tracking.execute("create table alembic_version (version_num text)")


def connected(postgres: EmbeddedPostgres, database: str, *, role: str) -> psycopg.Connection:
    url = postgres.url(database, role=role).replace("postgresql+psycopg://", "postgresql://")
    return psycopg.connect(url, autocommit=True)
