"""Adds a migration to an image: stands for the next release, one column further (expand only)."""

from pathlib import Path

import migrations

TEXT = '''"""One column more, which nobody asks for yet."""

import sqlalchemy as sa
from alembic import op

revision = "next_release"
down_revision = {head!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("remark", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("project", "remark")
'''


def main() -> None:
    """Write the migration behind the newest one."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    folder = Path(next(iter(migrations.__path__)))
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    (folder / "versions" / "next_release.py").write_text(TEXT.format(head=head))


if __name__ == "__main__":
    main()
