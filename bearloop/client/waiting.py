"""Waiting for long work: poll a resource until it ends, and show how far it is."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

POLL = 0.5
"""Seconds between two looks."""


class Ending(Protocol):
    """A resource that ends some day."""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        ...


Watched = TypeVar("Watched", bound=Ending)


class JobFailedError(Exception):
    """The work ended, and not well: says which and why."""


class WaitTooLongError(Exception):
    """The work did not end within the time given; it goes on."""


def wait_until_ended(
    look: Callable[[], Watched],
    *,
    show: Callable[[Watched], None] | None = None,
    limit: float | None = None,
) -> Watched:
    """Look until the resource has ended; `limit` in seconds, None waits for ever."""
    deadline = None if limit is None else time.monotonic() + limit
    while True:
        seen = look()
        if show:
            show(seen)
        if seen.ended:
            return seen
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTooLongError(f"not ended within {limit:.0f} s; it goes on")
        time.sleep(POLL)
