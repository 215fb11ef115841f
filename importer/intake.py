"""Takes the lines of a source: read, verify, store; many at once, answered in source order."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from typing import Final

from bearloop.contract.imports import LedgerLine
from bearloop.store import Store, image_key, thumbnail_key
from importer.decoders import Decoders
from importer.download import Content, Reader
from importer.ledger import refused_line, repeated_line, stored_line
from importer.problems import Refusal, RefusedError
from importer.sources import SourceLine
from importer.verify import Verified

WINDOW: Final = 1024
"""Lines begun or waiting to be answered in order: a slow host holds up no more than these."""


class Intake:
    """One import's way through; holds at most `slots` pictures' bytes at once."""

    def __init__(
        self,
        reader: Reader,
        *,
        decoders: Decoders,
        store: Store,
        threads: Executor,
        slots: int,
    ) -> None:
        self._reader = reader
        self._decoders = decoders
        self._store = store
        self._threads = threads
        self._slots = asyncio.Semaphore(slots)

    async def take(self, lines: Sequence[SourceLine]) -> AsyncIterator[LedgerLine]:
        """Yield what became of each line, in the order of the lines."""
        begun: deque[asyncio.Task[LedgerLine]] = deque()
        firsts: dict[str | int, asyncio.Task[LedgerLine]] = {}
        repeated = _repeated(lines)
        try:
            for line in lines:
                key = _identity(line)
                begun.append(asyncio.create_task(self._answer(line, firsts.get(key))))
                if key in repeated and line.refusal is None:
                    firsts.setdefault(key, begun[-1])
                if len(begun) >= WINDOW:
                    yield await begun.popleft()
            while begun:
                yield await begun.popleft()
        finally:
            for task in begun:
                task.cancel()

    async def _answer(self, line: SourceLine, first: asyncio.Task[LedgerLine] | None) -> LedgerLine:
        if line.refusal is not None:
            return refused_line(line, line.refusal)
        if first is not None:
            return repeated_line(line, await first)
        async with self._reader.turn(line), self._slots:
            try:
                content = await self._reader.read(line)
            except RefusedError as error:
                return refused_line(line, error.refusal)
            return await self._verify(line, content)

    async def _verify(self, line: SourceLine, content: Content) -> LedgerLine:
        size, content_type = len(content.data), content.content_type
        loop = asyncio.get_running_loop()
        try:
            verified = await loop.run_in_executor(self._threads, self._keep, content.data)
        except RefusedError as error:
            refusal = _worded(error.refusal, content_type)
            return refused_line(line, refusal, size=size, content_type=content_type)
        return stored_line(line, verified, size=size, content_type=content_type)

    def _keep(self, data: bytes) -> Verified:
        verified = self._decoders.verify(data)
        key = image_key(verified.sha256)
        # The thumbnail goes first: where the original lies, nothing is missing, and a
        # repeated import asks the store one question per picture.
        if not self._store.exists(key):
            self._store.put(thumbnail_key(verified.sha256), verified.thumbnail)
            self._store.put(key, data)
        return verified


def _identity(line: SourceLine) -> str | int:
    return line.location if line.entry is None else line.entry


def _repeated(lines: Sequence[SourceLine]) -> set[str | int]:
    counts = Counter(_identity(line) for line in lines if line.refusal is None)
    return {key for key, count in counts.items() if count > 1}


def _worded(refusal: Refusal, content_type: str | None) -> Refusal:
    """Say what a host sent in place of a picture: mostly a web page that says sorry."""
    if refusal.code != "not_a_picture" or content_type is None:
        return refusal
    return Refusal(refusal.code, f"the host answered with {content_type}: {refusal.detail}")
