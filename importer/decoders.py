"""The pool of decoder processes: a picture that kills or stalls one costs itself only."""

import json
import os
import queue
import select
import subprocess
import sys
from types import TracebackType
from typing import IO, Final, Self

from importer.decoder import ANSWER, REQUEST
from importer.problems import RefusedError
from importer.verify import Verified

PATIENCE: Final = 60.0
"""Seconds that one picture may take to decode; 50 megapixels take about five."""
MOST: Final = 4
"""Decoders at once: each may need over a gigabyte for one hostile picture."""


class Decoders:
    """A context manager with a few child processes; `verify` may be called from any thread."""

    def __init__(
        self,
        *,
        max_pixels: int,
        thumbnail_size: int,
        count: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.count = count or min(MOST, _cores())
        self._command = [
            sys.executable, "-m", "importer.decoder", str(max_pixels), str(thumbnail_size)
        ]  # fmt: skip
        self._patience = patience
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        self._children = [_Child(self._command) for _ in range(self.count)]
        for child in self._children:
            self._idle.put(child)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            child.stop()

    def verify(self, data: bytes) -> Verified:
        """Decode and describe one picture; raises RefusedError."""
        child = self._idle.get()
        try:
            head, thumbnail = child.ask(data, patience=self._patience)
        finally:
            self._idle.put(child)
        if "code" in head:
            raise RefusedError(str(head["code"]), str(head["detail"]))
        return Verified(
            sha256=str(head["sha256"]),
            width=int(head["width"]),
            height=int(head["height"]),
            format=str(head["format"]),
            perceptual_hash=int(head["perceptual_hash"]),
            thumbnail=thumbnail,
        )


class _Child:
    """One decoder process, started when first asked, and again after a death."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, data: bytes, *, patience: float) -> tuple[dict[str, str | int], bytes]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(REQUEST.pack(len(data)))
            process.stdin.write(data)
            process.stdin.flush()
            self._await(process.stdout, patience)
            sizes = ANSWER.unpack(_exactly(process.stdout, ANSWER.size))
            head = json.loads(_exactly(process.stdout, sizes[0]))
            return head, _exactly(process.stdout, sizes[1])
        except (BrokenPipeError, EOFError) as error:
            self._discard()
            raise RefusedError(
                "decoder_died", "the decoder crashed on it; leave it out or convert it"
            ) from error
        except TimeoutError as error:
            self._discard()
            raise RefusedError(
                "decoder_stalled", f"it does not decode within {patience:g} s"
            ) from error

    def stop(self) -> None:
        self._stopped = True
        self._discard()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None and not self._stopped:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        if self._process is None:
            raise RefusedError("interrupted", "the job ended before this picture")
        return self._process

    def _await(self, stream: IO[bytes], patience: float) -> None:
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        if not poll.poll(patience * 1000):
            raise TimeoutError

    def _discard(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            _close(stream)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _close(stream: IO[bytes] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        pass  # what was not yet sent is not wanted any more


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
