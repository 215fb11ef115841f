"""How many sources an import has, told before anybody reads them: near enough to share them out."""

import logging
import struct
from itertools import islice
from typing import Final

from bearloop.contract.imports import FolderSource, ImportSpec, Source, UrlSource, ZipSource
from bearloop.store import Store, StoreError, open_store

TAIL: Final = 64 * 1024 + 128
"""Bytes at the end of a zip in which its directory's end must lie, comment included."""
FULL: Final = 0xFFFF
"""Entries that say: look into the zip64 record."""
log = logging.getLogger(__name__)


def count_sources(spec: ImportSpec, store: Store, *, most: int) -> int:
    """Count up to `most` sources of the import; what cannot be counted is one."""
    if spec.only is not None:
        return len(spec.only)
    try:
        return min(most, _count(spec.source, store, most=most))
    except StoreError as error:
        # The job reads the source under an identity of its own, and will say what is wrong.
        log.info("the sources of job %s cannot be counted: %s", spec.job, error)
        return 1


def _count(source: Source, store: Store, *, most: int) -> int:
    match source:
        case UrlSource():
            return sum(
                min(len(urls), source.max_per_class or most) for urls in source.urls.values()
            )
        case ZipSource():
            key = f"uploads/{source.upload}"
            size = store.size(key)
            start = max(0, size - TAIL)
            return zip_entries(store.get_range(key, start=start, length=size - start))
        case FolderSource():
            return sum(1 for _ in islice(open_store(source.uri).list(""), most))


def zip_entries(tail: bytes) -> int:
    """Read the number of entries off the end of a zip file; 1 where there is none."""
    end, end_64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    if end < 0 or len(tail) < end + 12:
        return 1
    (entries,) = struct.unpack_from("<H", tail, end + 10)
    if entries == FULL and 0 <= end_64 <= len(tail) - 40:
        (entries,) = struct.unpack_from("<Q", tail, end_64 + 32)
    return max(1, int(entries))
