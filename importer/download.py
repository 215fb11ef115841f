"""The way from a line to its bytes: an address over the network, or a file of the source."""

import asyncio
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from bearloop.fetch import Fetcher, FetchError
from importer.folder import Files
from importer.problems import RefusedError
from importer.sources import SourceLine


class Content(NamedTuple):
    """The bytes behind a line."""

    data: bytes
    content_type: str | None


class Reader(Protocol):
    """Reads lines, several at once."""

    def turn(self, line: SourceLine) -> AbstractAsyncContextManager[object]:
        """Return what a line waits for before it may take one of the job's slots."""
        ...

    async def read(self, line: SourceLine) -> Content:
        """Return the bytes; raises RefusedError."""
        ...


class Download:
    """Reads addresses."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def turn(self, line: SourceLine) -> AbstractAsyncContextManager[object]:
        # The fetcher is polite by itself; queueing here, before a slot is taken, keeps one
        # popular host from holding up all the others.
        host = _host(line.location)
        turn = self._hosts.get(host)
        if turn is None:
            turn = self._hosts[host] = asyncio.Semaphore(self._fetcher.limits.per_host)
        return turn

    async def read(self, line: SourceLine) -> Content:
        try:
            fetched = await self._fetcher.fetch(line.location)
        except FetchError as error:
            raise RefusedError(error.code, error.detail) from error
        return Content(fetched.data, fetched.content_type)


class Unpacking:
    """Reads files of a folder or a zip, in threads."""

    def __init__(self, files: Files, threads: Executor) -> None:
        self._files = files
        self._threads = threads

    def turn(self, line: SourceLine) -> AbstractAsyncContextManager[object]:
        del line
        return nullcontext()

    async def read(self, line: SourceLine) -> Content:
        assert line.entry is not None
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, self._files.read, line.entry)
        return Content(data, None)


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
