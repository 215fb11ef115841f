"""Small real pictures, and the ledger that an importer would write about them."""

import hashlib
import io
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from bearloop.contract.imports import LedgerLine


def picture(number: int, *, size: tuple[int, int] = (24, 16)) -> bytes:
    """A PNG of noise that no other number has."""
    noise = random.Random(number).randbytes(size[0] * size[1] * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, noise).save(buffer, "PNG")
    return buffer.getvalue()


def folders(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files, by their path below the root."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def line(position: int, name: str, class_name: str, *, split: str | None = None) -> LedgerLine:
    """A stored picture whose bytes are called `name`."""
    return LedgerLine(
        position=position,
        location=f"{class_name}/{position}.png",
        class_name=class_name,
        split=split,  # type: ignore[arg-type]
        status="stored",
        sha256=sha(name),
        bytes=1000 + position,
        width=100,
        height=50,
        format="PNG",
        perceptual_hash=-position,
    )


def refused(position: int, code: str) -> LedgerLine:
    """A source that was not taken."""
    return LedgerLine(
        position=position,
        location=f"https://example.org/{position}.jpg",
        class_name="black",
        split=None,
        status="refused",
        code=code,
        detail=f"{code}; mend it",
    )


def sha(name: str) -> str:
    """The sha256 of bytes that are called so."""
    return hashlib.sha256(name.encode()).hexdigest()
