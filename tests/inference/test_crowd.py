"""A crowd at the door: requests are counted, connections are not, and silence ends."""

import socket

import httpx
import pytest

from tests.inference.bundles import picture
from tests.inference.conftest import Eventually, Server, Start

PROBES = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")


@pytest.fixture(scope="module")
def narrow(start: Start) -> Server:
    return start({"BEARLOOP_REQUESTS": "2"}).wait_until_ready()


def connected(server: Server, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(sent)
    return connection


def begun(server: Server) -> socket.socket:
    """Begin to classify a picture: all but its last byte is sent."""
    data = picture()
    head = f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
    return connected(server, head.encode() + data[:-1])


def ended(connection: socket.socket) -> bytes:
    """Send the last byte and return the status line."""
    with connection:
        connection.sendall(picture()[-1:])
        return connection.makefile("rb").readline()


def full(server: Server) -> bool:
    return server.client.post("/classify", content=picture()).status_code == 503


def test_one_request_too_many_is_refused_and_probes_are_not(
    narrow: Server, eventually: Eventually
) -> None:
    open_ones = [begun(narrow) for _ in range(2)]
    eventually(lambda: full(narrow))
    refused = narrow.client.post("/classify", content=picture())
    assert refused.headers["retry-after"] == "1"
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    told = narrow.client.get("/v2").json()
    assert told == {"error": f"busy: {refused.json()['detail']}"}
    assert {narrow.client.get(probe).status_code for probe in PROBES} == {200}
    assert 'bearloop_requests_total{route="unknown",status="503"}' in (
        narrow.client.get("/metrics").text
    )

    assert [ended(connection) for connection in open_ones] == [b"HTTP/1.1 200 OK\r\n"] * 2
    assert narrow.client.post("/classify", content=picture()).status_code == 200


def test_connections_that_ask_nothing_take_no_place(narrow: Server) -> None:
    silent = [connected(narrow) for _ in range(10)]
    assert httpx.post(f"{narrow.url}/classify", content=picture()).status_code == 200
    assert httpx.get(f"{narrow.url}/healthz").status_code == 200
    for connection in silent:
        connection.close()


def test_connections_without_complete_headers_end_and_requests_go_on(narrow: Server) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    kept = connected(narrow, head + b"\r\n")
    assert kept.recv(1024).startswith(b"HTTP/1.1 200 OK")
    kept.sendall(b"\r\n")
    uploading = begun(narrow)
    for connection in (kept, connected(narrow), connected(narrow, head)):
        with connection:
            # To its end, which the server makes; a test that waits for it in vain times out.
            assert connection.makefile("rb").read() in (b"", b'{"live":true}')
    assert ended(uploading) == b"HTTP/1.1 200 OK\r\n"
