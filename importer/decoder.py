"""A child process that decodes: `python -m importer.decoder MAX_PIXELS THUMBNAIL_SIZE`.

It reads a length and a picture's bytes, answers two lengths, a JSON head and a thumbnail, and
ends with its standard input. What a hostile picture breaks, it breaks here.
"""

import json
import os
import resource
import struct
import sys
from pathlib import Path
from typing import IO, Final

from bearloop.preprocess import PictureError
from importer.verify import verify

REQUEST: Final = struct.Struct("!Q")
ANSWER: Final = struct.Struct("!II")
BYTES_PER_PIXEL: Final = 24
"""The dearest path, grey of 32 bits, holds four copies of 4 bytes a pixel, and what it becomes."""
SLACK: Final = 512 * 1024 * 1024
"""For the file itself, the decoder's tables and the allocator."""


def main() -> None:
    """Answer one picture after the other until the parent goes away."""
    max_pixels, thumbnail_size = int(sys.argv[1]), int(sys.argv[2])
    _bound_memory(max_pixels * BYTES_PER_PIXEL + SLACK)
    answers = os.fdopen(os.dup(1), "wb")
    # A library that prints must not garble the answers.
    os.dup2(2, 1)
    while (data := _request(sys.stdin.buffer)) is not None:
        head, thumbnail = _verified(data, max_pixels=max_pixels, thumbnail_size=thumbnail_size)
        answers.write(ANSWER.pack(len(head), len(thumbnail)) + head + thumbnail)
        answers.flush()


def _bound_memory(budget: int) -> None:
    sizes = Path("/proc/self/statm")
    if not sizes.exists():
        return  # macOS knows no such limit
    now = int(sizes.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + budget if hard == resource.RLIM_INFINITY else min(now + budget, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _request(stream: IO[bytes]) -> bytes | None:
    head = stream.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    (length,) = REQUEST.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def _verified(data: bytes, *, max_pixels: int, thumbnail_size: int) -> tuple[bytes, bytes]:
    try:
        verified = verify(data, max_pixels=max_pixels, thumbnail_size=thumbnail_size)
    except PictureError as error:
        return json.dumps({"code": error.code, "detail": error.detail}).encode(), b""
    except MemoryError:
        detail = "it needs more memory than a picture may; scale it down"
        return json.dumps({"code": "too_many_pixels", "detail": detail}).encode(), b""
    head = verified._asdict()
    thumbnail = head.pop("thumbnail")
    return json.dumps(head).encode(), thumbnail


if __name__ == "__main__":
    main()
