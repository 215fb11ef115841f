"""A request's body, whole and capped: in memory only, never spooled to a file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from inference.errors import BusyError, MalformedError, SlowBodyError, TooLargeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE = b"file"
"""The multipart field that holds the picture."""
ENVELOPE = 16 * 1024
"""Bytes that multipart headers may add to a picture."""


class Bodies:
    """Reads bodies; all that are being read at once share one bound of memory."""

    def __init__(self, *, max_bytes: int, max_buffered: int, seconds: float = 60.0) -> None:
        self.max_bytes = max_bytes
        self.max_buffered = max(max_buffered, max_bytes + ENVELOPE)
        self.seconds = seconds
        """How long one body may take to arrive."""
        self.buffered = 0

    @asynccontextmanager
    async def picture(self, request: Request) -> AsyncIterator[bytes]:
        """Give the picture: the multipart field `file`, or else the body as it is."""
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data":
            async with self.whole(request) as data:
                yield data
            return
        async with self.whole(request, envelope=ENVELOPE) as data:
            picture = file_part(data, options.get(b"boundary"))
            # Only the picture is held while it is worked on, not the form around it too.
            del data
            self._check_size(len(picture), self.max_bytes)
            yield picture

    @asynccontextmanager
    async def whole(self, request: Request, *, envelope: int = 0) -> AsyncIterator[bytes]:
        """Give the whole body; raises TooLargeError, SlowBodyError or BusyError."""
        held, size = bytearray(), 0
        try:
            await self._read_in_time(request, held, limit=self.max_bytes + envelope)
            size = len(held)
            # Without a name here: the caller alone says how long it is held.
            yield _emptied(held)
        finally:
            self.buffered -= size + len(held)

    async def _read_in_time(self, request: Request, held: bytearray, *, limit: int) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await self._read(request, held, limit=limit)
        except TimeoutError:
            raise SlowBodyError(f"the body took more than {self.seconds:g} s") from None

    async def _read(self, request: Request, held: bytearray, *, limit: int) -> None:
        claimed = request.headers.get("content-length", "")
        self._check_size(int(claimed) if claimed.isdecimal() else 0, limit)
        async for chunk in request.stream():
            self._check_size(len(held) + len(chunk), limit)
            if self.buffered + len(chunk) > self.max_buffered:
                raise BusyError("too many bytes are being uploaded at once: try again in a second")
            held += chunk
            self.buffered += len(chunk)

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise TooLargeError(
                f"more than {self.max_bytes} bytes: scale the picture down before you send it"
            )


def file_part(data: bytes, boundary: bytes | None) -> bytes:
    """Return the bytes of the multipart field `file`; raises MalformedError."""
    if not boundary:
        raise MalformedError("multipart/form-data without a boundary: let your client set it")
    reader = _PartReader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(data)
        parser.finalize()
    except MultipartParseError as error:
        raise MalformedError(f"the multipart body does not parse: {error}") from error
    if reader.found is None:
        raise MalformedError("the form has no field `file`: send the picture as `-F file=@NAME`")
    return bytes(reader.found)


def _emptied(held: bytearray) -> bytes:
    whole = bytes(held)
    held.clear()
    return whole


class _PartReader:
    """Follows the parser through the parts and keeps the first one named `file`."""

    def __init__(self) -> None:
        self.found: bytearray | None = None
        self._keeps = False
        self._header = b""
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
        }

    def _begin(self) -> None:
        self._keeps = False

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if options.get(b"name") == FILE and self.found is None:
                self.found, self._keeps = bytearray(), True
        self._header = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._keeps and self.found is not None:
            self.found += data[start:end]
