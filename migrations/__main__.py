"""`python -m migrations`: migrate as the owner and grant the program's role its rights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from migrations.patience import MigrationError, RefusedError, first_line, say
from migrations.settings import OwnerSettings
from migrations.upgrade import await_database, upgrade


def main() -> None:
    """Migrate BEARLOOP_OWNER_URL; exit code 1: not in time, 42: this image does not fit."""
    with told("migrations"):
        given = OwnerSettings()
        url = await_database(given.address, within=given.database_wait)
        upgrade(url, program_role=given.program_role, within=given.database_wait)


@contextmanager
def told(program: str) -> Iterator[None]:
    """End with words and an exit code in place of a trace."""
    try:
        yield
    except MigrationError as error:
        say(f"{program}: {error}")
        sys.exit(error.exit_code)
    except ValidationError as error:
        # Without the values: they hold passwords.
        for problem in error.errors(include_input=False, include_url=False):
            hint = " (five minutes are PT5M)" if "time_delta" in problem["type"] else ""
            where = "".join(f" BEARLOOP_{str(name).upper()}:" for name in problem["loc"][:1])
            say(f"{program}:{where} {problem['msg']}{hint}")
        sys.exit(RefusedError.exit_code)
    except DBAPIError as error:
        say(f"{program}: the database refused: {first_line(error)}")
        sys.exit(MigrationError.exit_code)


if __name__ == "__main__":
    main()
