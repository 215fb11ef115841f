"""Listening and leaving: two servers may share a port for a while, and no request is lost."""

import asyncio
import ctypes
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn

from inference.app import create_app
from inference.heads import PromptProtocol
from inference.serving import Serving

HANDSHAKE = timedelta(seconds=0.2)
"""Longer than a TCP handshake on a pod network takes; a client asks again after a second."""
SO_ATTACH_FILTER = 26
"""Linux' number of the option; the socket module does not name it."""

# A classic BPF program on the TCP header: the byte at 13 holds the flags; drop what has SYN (0x02)
# without ACK (0x10), take everything else.
DROP_CONNECTION_REQUESTS = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFF_FFFF),
)


def listen(host: str, port: int) -> socket.socket:
    """Bind the port, beside a server that is about to leave it; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def serve(parts: Serving, listener: socket.socket, *, linger: timedelta) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those in flight and return."""
    config = uvicorn.Config(
        create_app(parts),
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=60,
        http=PromptProtocol,
    )
    server = _DrainingServer(config, parts=parts, listener=listener, linger=linger)
    server.run(sockets=[listener])


class _DrainingServer(uvicorn.Server):
    """Leaves in four steps: lingers, turns new connections away, takes the last ones, closes.

    When two sockets share a port, Linux gives each connection to one of them as soon as its SYN
    comes. Closing a socket resets the connections that wait in its queue, so the queue must run
    dry first: new SYNs are dropped, which their senders repeat after a second, when the other
    socket has the port alone; the handshakes under way end, and are served.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        parts: Serving,
        listener: socket.socket,
        linger: timedelta,
    ) -> None:
        super().__init__(config)
        self._parts = parts
        self._listener = listener
        self._linger = linger

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Unlike uvicorn's own, it does not raise the signal again after the drain: leaving when
        # asked to is a success, and exits with 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._parts.draining = True
        await _pass(self._linger)
        if _turn_connections_away(self._listener):
            await _pass(HANDSHAKE)
        await super().shutdown(sockets)


async def _pass(span: timedelta) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + span.total_seconds()
    await asyncio.sleep(deadline - loop.time())


def _turn_connections_away(listener: socket.socket) -> bool:
    if sys.platform != "linux":
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in DROP_CONNECTION_REQUESTS)
    held = ctypes.create_string_buffer(code)
    # `struct sock_fprog`: the number of instructions and their address.
    program = struct.pack("HL", len(DROP_CONNECTION_REQUESTS), ctypes.addressof(held))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True
