"""`python -m migrations.wait`: return when the schema is at least this image's own."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy.exc import OperationalError, ProgrammingError

from migrations.__main__ import told
from migrations.history import VERSIONS, Fit, History, own_history
from migrations.patience import await_none, first_line, say
from migrations.settings import Address, ProgramSettings
from migrations.upgrade import absence, look, looking_engine


def main() -> None:
    """Wait for BEARLOOP_DATABASE_URL; exit code 1: not in time, 42: this image does not fit."""
    with told("migrations.wait"):
        given = ProgramSettings()
        wait_for_schema(given.address, within=given.schema_wait)


def wait_for_schema(
    address: Address, *, within: timedelta | None, versions: Path = VERSIONS
) -> None:
    """Wait; raises MigrationError at the deadline and RefusedError where waiting is in vain."""
    history = own_history(versions)
    await_none(lambda: absence(address) or _missing(address, history), within=within)
    say(f"the schema serves this image (at {history.own})")


def _missing(address: Address, history: History) -> str | None:
    try:
        with looking_engine(address()).connect() as connection:
            found = look(connection, history)
    except OperationalError as error:
        return f"the database does not let us in: {first_line(error)}"
    except ProgrammingError as error:
        return f"the program's role has no rights yet: {first_line(error)}"
    if found is Fit.behind:
        return f"the schema is older than {history.own}: its migration has not ended"
    return None


if __name__ == "__main__":
    main()
