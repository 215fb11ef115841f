"""Give a promotion its deadline and the worker its own token."""

import sqlalchemy as sa
from alembic import op

revision = "27ae173254ce"
down_revision = "4c977af17bc0"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "promotion",
        sa.Column(
            "moved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
    )
    op.add_column("promotion", sa.Column("probe_token", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("promotion", "probe_token")
    op.drop_column("promotion", "moved_at")
