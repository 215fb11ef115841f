"""Waiting with a deadline, and saying for what."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

PAUSE = timedelta(seconds=1)
"""Between two looks."""
CONNECT_WITHIN = 5
"""Seconds that one attempt to connect may take."""


class MigrationError(Exception):
    """The schema is not what this image needs: says why, and the way out."""

    exit_code = 1
    """Trying again may help."""


class RefusedError(MigrationError):
    """This image and this schema do not fit; trying again does not help."""

    exit_code = 42


def await_none(
    missing: Callable[[], str | None], *, within: timedelta, pause: timedelta = PAUSE
) -> None:
    """Look until nothing is missing; tell each new reason, and fail with the last one."""
    deadline = time.monotonic() + within.total_seconds()
    told = None
    while (reason := missing()) is not None:
        if time.monotonic() >= deadline:
            raise MigrationError(f"gave up after {within.total_seconds():g} s: {reason}")
        if reason != told:
            say(f"waiting: {reason}")
            told = reason
        time.sleep(pause.total_seconds())


def say(text: str) -> None:
    """Tell the operator."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: DBAPIError) -> str:
    """Say what the database said, without the statement and its way through the libraries."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
