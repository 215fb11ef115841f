"""Keep what a run costs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "d2b7c45e8f10"
down_revision = "a3f4e90d6c15"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("cost", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "cost")
