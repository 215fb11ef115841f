"""The program's role can add to the record, and can neither change nor delete it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from api.database import Database
from migrations.rights import APPEND_ONLY


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["delete from {}", "update {} set id = id", "truncate {}"])
def test_the_record_cannot_be_changed(database: Database, table: str, change: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        database.transaction() as session,
    ):
        session.execute(text(change.format(table)))
