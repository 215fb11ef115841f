"""Waiting, without end where nobody sets one, and saying for what."""

import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

PAUSE = timedelta(seconds=1)
"""Between two looks, at first."""
LONGEST_PAUSE = timedelta(seconds=10)
"""Who is away for an hour is not asked every second."""
REMINDER = timedelta(minutes=1)
"""What is still missing is said again after so long: whoever reads the end of a log finds it."""
PATIENCE_WITH_LOCKS = 3
"""Seconds for one lock; then all is undone, those behind are let through, and it is tried again."""
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
    missing: Callable[[], str | None],
    *,
    within: timedelta | None,
    pause: timedelta = PAUSE,
    reminder: timedelta = REMINDER,
) -> None:
    """Look until nothing is missing; say each new reason, and the same one again now and then.

    Fails with the last reason after `within`; without it the wait has no end.
    """
    limit = math.inf if within is None else within.total_seconds()
    began = time.monotonic()
    deadline, told, told_at = began + limit, "", began
    while (reason := missing()) is not None:
        now = time.monotonic()
        if now >= deadline:
            raise MigrationError(f"gave up after {limit:g} s: {reason}")
        if reason != told or now - told_at >= reminder.total_seconds():
            say(f"waiting: {reason}")
            told, told_at = reason, now
        patience = min((now - began) / 10, LONGEST_PAUSE.total_seconds())
        time.sleep(max(pause.total_seconds(), patience))


def say(text: str) -> None:
    """Tell the operator."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: DBAPIError) -> str:
    """Say what the database said, without the statement and its way through the libraries."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
