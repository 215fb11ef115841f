"""The schema's own history, written by the migrations and read by programs that wait for it."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from api.tables.declarative import Table


class SchemaRevision(Table):
    """A revision that this database has had: older code learns from it whether it still fits."""

    __tablename__ = "schema_revision"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Place in the history, from 1."""
    revision: Mapped[str] = mapped_column(unique=True)
    serves: Mapped[str]
    """The oldest revision whose code works with this schema."""
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())
