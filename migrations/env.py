"""How Alembic reaches the database: what belongs to an upgrade is one transaction."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from api.tables import Table
from migrations.patience import PATIENCE_WITH_LOCKS
from migrations.recorded import record
from migrations.rights import grant

engine = create_engine(
    context.config.get_main_option("sqlalchemy.url", ""), poolclass=pool.NullPool
)
upgrading = context.config.attributes.get("upgrading")

with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=Table.metadata, compare_server_default=True
    )
    with context.begin_transaction():
        # Whoever reads a table queues behind a change of it that itself waits for a long reader.
        connection.execute(text(f"set local lock_timeout = '{PATIENCE_WITH_LOCKS}s'"))
        context.run_migrations()
        if upgrading is not None:
            record(connection, upgrading.history)
            grant(connection, upgrading.program_role)
