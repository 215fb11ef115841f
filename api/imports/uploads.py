"""Zip files on their way into the store: streamed, counted, hashed."""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from anyio import from_thread
from fastapi import Request
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.errors import ApiError, UnprocessableError
from api.imports.schemas import Upload
from api.imports.sources import upload_key
from bearloop.store import Store


class UploadTooLargeError(ApiError):
    """More bytes than the operator allows for one upload."""

    status = 413
    code = "upload_too_large"
    title = "Upload too large"


class NoZipError(UnprocessableError):
    """The body is no zip file."""

    code = "no_zip"
    title = "No zip file"


def receive_zip(request: Request, session: Session, caller: Caller, *, store: Store) -> Upload:
    """Stream the request's body to `uploads/<sha256>`; the same bytes land on the same key."""
    _let_go(request, session)
    with tempfile.TemporaryDirectory(prefix="bearloop-upload-") as folder:
        path = Path(folder) / "upload.zip"
        with path.open("wb") as file:
            sha256 = _receive(request, file, most=request.app.state.settings.max_upload)
        size = path.stat().st_size
        if not zipfile.is_zipfile(path):
            raise NoZipError(
                f"the {size} bytes of the body are no zip file",
                field="body",
                value=f"{size} bytes",
                way_out="send the zip itself as the raw body: curl --data-binary @photos.zip",
            )
        if not store.exists(upload_key(sha256)):
            store.upload(upload_key(sha256), path)
    target = f"/v1/projects/{caller.project}/uploads/{sha256}"
    audit.record(session, caller, "upload.store", target=target, bytes=size)
    return Upload(upload=sha256, bytes=size)


def _let_go(request: Request, session: Session) -> None:
    # An upload may take minutes, and a connection of the pool is no waiting room; nothing was
    # written yet, unless an idempotency key was taken, which must stay in this transaction.
    if getattr(request.state, "idempotency", None) is None:
        session.close()


def _receive(request: Request, file: IO[bytes], *, most: int) -> str:
    """Write the body to the file and return its sha256."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(int(announced), most)
    digest = hashlib.sha256()
    received = 0
    for chunk in _chunks(request):
        received += len(chunk)
        if received > most:
            raise _too_large(received, most)
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def _chunks(request: Request) -> Iterator[bytes]:
    # The route runs in a worker thread; only waiting for the next chunk is the event loop's.
    stream = aiter(request.stream())
    while (chunk := from_thread.run(anext, stream, None)) is not None:
        yield chunk


def _too_large(size: int, most: int) -> UploadTooLargeError:
    return UploadTooLargeError(
        f"an upload of {size} bytes is over the limit of {most}",
        field="body",
        value=size,
        way_out="split the zip, or import a folder (file: or s3:) instead",
    )
