"""Keep the MLflow experiment of a run, which its page is named by."""

import sqlalchemy as sa
from alembic import op

revision = "91463ec0e92d"
down_revision = "27ae173254ce"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("mlflow_experiment_id", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "mlflow_experiment_id")
