"""What of a request's body is held while its picture is worked on."""

import asyncio
import tracemalloc
from collections.abc import Iterator

import pytest
from fastapi import Request
from starlette.types import Message

from inference.body import Bodies

PICTURE = bytes(4_000_000)
CHUNK = 50_000
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + PICTURE
    + b"\r\n--x--\r\n"
)


@pytest.mark.parametrize(
    ("kind", "body"), [("multipart/form-data; boundary=x", FORM), ("image/png", PICTURE)]
)
def test_one_copy_of_the_picture_is_held_and_counted(kind: str, body: bytes) -> None:
    bodies = Bodies(max_bytes=len(PICTURE), max_buffered=2 * len(FORM))

    async def held() -> int:
        async with bodies.picture(_request(kind, body)) as data:
            assert data == PICTURE
            assert bodies.buffered == len(body)
            return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert asyncio.run(held()) < 1.5 * len(PICTURE)
    finally:
        tracemalloc.stop()
    assert bodies.buffered == 0


def _request(kind: str, body: bytes) -> Request:
    chunks: Iterator[bytes] = (body[at : at + CHUNK] for at in range(0, len(body), CHUNK))

    async def receive() -> Message:
        chunk = next(chunks, b"")
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)
