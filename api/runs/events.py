"""A run's changes as server-sent events; the one async part of the API.

A stream holds neither a session nor a thread while it waits: each look takes one for a moment.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from threading import Event
from time import monotonic

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from api.database import Database
from api.errors import ApiError
from api.jobs.states import JobState
from api.runs.runs import Asking, show_run
from api.runs.schemas import RunView

MOST_STREAMS = 200
"""Of one API process."""
LONGEST = timedelta(minutes=30)
"""A stream ends then; browsers ask again by themselves."""
SIGN_OF_LIFE = timedelta(seconds=15)
"""A comment at least so often, so that proxies keep the connection."""


class TooManyStreamsError(ApiError):
    """So many clients follow runs already that this one must poll."""

    status = 503
    code = "too_many_streams"
    title = "Too many streams"


class Streams:
    """The open streams of one API process; used in its event loop only."""

    def __init__(self, leaving: Event) -> None:
        self.open = 0
        self.leaving = leaving

    def check(self) -> None:
        """Refuse one more than the most."""
        if self.open >= MOST_STREAMS:
            raise TooManyStreamsError(
                f"{self.open} streams are open, which is the most",
                way_out="poll GET …/runs/{run}, or try again later",
            )


def streams_of(app: FastAPI) -> Streams:
    """Return the app's own count."""
    if not hasattr(app.state, "streams"):
        app.state.streams = Streams(app.state.leaving)
    streams: Streams = app.state.streams
    return streams


async def follow_run(
    database: Database, asking: Asking, *, number: int, streams: Streams
) -> AsyncIterator[str]:
    """Yield an event for each change of the run, the present state first, until it has ended."""
    deadline, last, said_at = monotonic() + LONGEST.total_seconds(), "", monotonic()
    streams.open += 1
    try:
        while monotonic() < deadline:
            # Whoever listens asks again elsewhere: an API that is asked to end waits for uploads.
            is_last = streams.leaving.is_set()
            view = await run_in_threadpool(_look, database, asking, number)
            shown = view.model_dump_json()
            if shown != last:
                yield f"event: run\ndata: {shown}\n\n"
                last, said_at = shown, monotonic()
            elif monotonic() - said_at > SIGN_OF_LIFE.total_seconds():
                yield ": nothing new\n\n"
                said_at = monotonic()
            if is_last or JobState(view.state).is_terminal:
                return
            await asyncio.sleep(asking.settings.poll.total_seconds())
    finally:
        streams.open -= 1


def _look(database: Database, asking: Asking, number: int) -> RunView:
    with database.transaction() as session:
        return show_run(session, asking, number)
