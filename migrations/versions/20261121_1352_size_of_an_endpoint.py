"""Keep how many servers an endpoint has, and how big they are."""

import sqlalchemy as sa
from alembic import op

revision = "a3f4e90d6c15"
down_revision = "8c1f0b7a52d4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    one = sa.text("1")
    op.add_column(
        "endpoint", sa.Column("replicas", sa.SmallInteger(), server_default=one, nullable=False)
    )
    op.add_column("endpoint", sa.Column("most_replicas", sa.SmallInteger(), nullable=True))
    op.add_column("endpoint", sa.Column("cpu", sa.Float(), nullable=True))
    op.add_column("endpoint", sa.Column("memory", sa.String(), nullable=True))


def downgrade() -> None:
    for column in ("memory", "cpu", "most_replicas", "replicas"):
        op.drop_column("endpoint", column)
