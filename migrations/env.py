"""How Alembic reaches the database: by the address in its configuration."""

from alembic import context
from sqlalchemy import create_engine, pool

from api.tables import Table

engine = create_engine(
    context.config.get_main_option("sqlalchemy.url", ""), poolclass=pool.NullPool
)

with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=Table.metadata, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()
