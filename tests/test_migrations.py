"""The migrations and the tables agree, and migrating is safe to repeat."""

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from api.tables import Table
from bearloop.embedded_postgres import OWNER, PROGRAM, EmbeddedPostgres
from migrations.upgrade import upgrade


def test_the_migrated_schema_is_what_the_tables_say(
    postgres: EmbeddedPostgres, database_name: str
) -> None:
    engine = create_engine(postgres.url(database_name, role=OWNER))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, Table.metadata)
    engine.dispose()
    assert differences == []


def test_three_migrations_at_once_upgrade_once(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("fresh")
    url = postgres.url("fresh", role=OWNER)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: upgrade(url, program_role=PROGRAM), range(3)))
    engine = create_engine(url)
    assert "label_event" in inspect(engine).get_table_names()
    engine.dispose()
    postgres.drop_database("fresh")
