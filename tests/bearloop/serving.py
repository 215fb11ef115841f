"""A real API on a port of this machine, and a line to it that breaks."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application; gives its address."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()  # who asks before the server runs waits for it
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, args=([bound],), name="api")
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


class BreakingLine:
    """Forwards each request whole, and loses the answers of the first ones."""

    def __init__(self, target: str, *, lost: int) -> None:
        self._target = ("127.0.0.1", int(target.rpartition(":")[2]))
        self._lost = lost
        self.carried = 0
        """Requests that reached the API."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._listening.close()

    def _work(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, _ = self._listening.accept()
                with caller:
                    self._carry(caller)

    def _carry(self, caller: socket.socket) -> None:
        request = _read_request(caller)
        with socket.create_connection(self._target) as api:
            api.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
            answer = b"".join(iter(lambda: api.recv(65536), b""))
        self.carried += 1
        if self.carried > self._lost:
            caller.sendall(answer)


def _read_request(caller: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        read += caller.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += caller.recv(65536)
    return head + b"\r\n\r\n" + body
