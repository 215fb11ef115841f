"""Keep what a job asks for, and what its project may use at once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8c1f0b7a52d4"
down_revision = "5d0a6f1c8b27"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("queue", sa.String(), nullable=True))
    op.add_column("project", sa.Column("gpu_quota", sa.BigInteger(), nullable=True))
    op.add_column(
        "job", sa.Column("gpus", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "job",
        sa.Column(
            "resources",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("job", "resources")
    op.drop_column("job", "gpus")
    op.drop_column("project", "gpu_quota")
    op.drop_column("project", "queue")
