"""Keep the applied revisions, so that older code can tell whether it still fits."""

import sqlalchemy as sa
from alembic import op

revision = "5d0a6f1c8b27"
down_revision = "91463ec0e92d"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schema_revision",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("serves", sa.String(), nullable=False),
        sa.Column(
            "applied_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_schema_revision")),
        sa.UniqueConstraint("revision", name=op.f("uq_schema_revision_revision")),
    )


def downgrade() -> None:
    op.drop_table("schema_revision")
