"""Leaving: who is asked to end answers on while requests may still come, and loses none of them."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOK = 0.1
"""Seconds between two looks at whether to hurry."""


class LeavingMiddleware:
    """Closes the connection of each answer from then on: its caller opens the next one elsewhere.

    A connection that is closed later, when its caller takes it to be kept, loses a request.
    """

    def __init__(self, app: ASGIApp, leaving: Event) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and mark the answer when it begins."""

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start" and self._leaving.is_set():
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, mark if scope["type"] == "http" else send)


class LingeringServer(uvicorn.Server):
    """Serves on for a while after SIGTERM, then takes nothing new and ends what is in hand."""

    def __init__(self, config: uvicorn.Config, *, leaving: Event, linger: timedelta) -> None:
        super().__init__(config)
        self._leaving = leaving
        self._linger = linger
        self._hurried = Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, raise no signal again: leaving when asked to is a success."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to leave; who is told again while it lingers goes on with the rest at once."""
        if self._leaving.is_set() and not self._hurried.is_set():
            self._hurried.set()
            return
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Linger, and only then shut down."""
        self._leaving.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._linger.total_seconds()
        while loop.time() < deadline and not self._hurried.is_set():
            await asyncio.sleep(LOOK)
        self._hurried.set()
        await super().shutdown(sockets)
