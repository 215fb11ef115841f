"""The object store: one Protocol, S3 and a folder behind it."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_WITHIN = 5
"""Seconds until an S3 server that does not answer counts as away; five such tries are made."""
ANSWER_WITHIN = 60
"""Seconds until one that accepts a request and says nothing does; boto's own."""
HASTE = 2
"""Seconds, both, for who would rather hear that it is away."""
TEMPORARY = ".new-"
"""How the name of a half-written file of the folder store begins."""


class StoreError(Exception):
    """The store did not do what it was asked: says what, where, and which key."""


class RefusedKeysError(StoreError):
    """The store knows these access keys not, or lets them not do this."""


class MissingBucketError(StoreError):
    """There is no bucket of this name."""


class MissingObjectError(StoreError):
    """There is no object under this key."""


class ObjectInfo(NamedTuple):
    """One listed object."""

    key: str
    size: int
    """Bytes."""


class Store(Protocol):
    """Bytes under keys such as `images/ab/ab12…`; keys are relative to the store's prefix."""

    url: str
    """The address that `open_store` takes."""

    def get(self, key: str) -> bytes: ...

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on; none where the object has no more."""
        ...

    def size(self, key: str) -> int:
        """Return the object's size in bytes; raises MissingObjectError."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object whole; a reader sees the old bytes or the new ones, never a part."""
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Create the object; return False, and change nothing, when the key is taken."""
        ...

    def upload(self, key: str, path: Path) -> None: ...

    def download(self, key: str, path: Path) -> None: ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, in key order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        ...

    def clear(self, prefix: str) -> None:
        """Remove all below a prefix that ends with `/`, where nobody writes any more."""
        ...

    def under(self, prefix: str) -> "Store":
        """Return the same store seen from below `prefix`."""
        ...

    def hasty(self) -> "Store":
        """Return the same store for probes: asked once, and waited for `HASTE` seconds."""
        ...


def open_store(url: str) -> Store:
    """Open `file:///folder` or `s3://bucket/prefix`; boto3 reads endpoint and keys from AWS_*."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(bucket=parts.netloc, prefix=parts.path.strip("/"))
    raise StoreError(f"store address {url!r}: expected file:///folder or s3://bucket/prefix")


def image_key(sha256: str) -> str:
    """Return the key of an image's original bytes."""
    return f"images/{sha256[:2]}/{sha256}"


def thumbnail_key(sha256: str) -> str:
    """Return the key of an image's JPEG thumbnail."""
    return f"thumbnails/{sha256[:2]}/{sha256}"


class FolderStore:
    """A folder as object store, for one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = self.folder.as_uri()

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def size(self, key: str) -> int:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def put(self, key: str, data: bytes) -> None:
        with self._aside(key) as temporary:
            temporary.write_bytes(data)
            _synced(temporary)
            temporary.replace(self._path(key))

    def put_new(self, key: str, data: bytes) -> bool:
        with self._aside(key) as temporary:
            temporary.write_bytes(data)
            _synced(temporary)
            try:
                # A hard link is created only if the name is free, and appears with all its bytes.
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
        return True

    def upload(self, key: str, path: Path) -> None:
        with self._aside(key) as temporary:
            shutil.copyfile(path, temporary)
            _synced(temporary)
            temporary.replace(self._path(key))

    def download(self, key: str, path: Path) -> None:
        try:
            shutil.copyfile(self._path(key), path)
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        whole = not prefix or prefix.endswith("/")
        top = self.folder / prefix if whole else (self.folder / prefix).parent
        found = (path for path in top.rglob("*") if path.is_file() and not _is_temporary(path))
        for path in sorted(found):
            key = path.relative_to(self.folder).as_posix()
            if key.startswith(prefix):
                yield ObjectInfo(key, path.stat().st_size)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def clear(self, prefix: str) -> None:
        _delete_all(self, prefix)
        # What a killed process left half-written has no key.
        for path in self._path(prefix).rglob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def under(self, prefix: str) -> Store:
        return FolderStore(self._path(prefix.rstrip("/")))

    def hasty(self) -> Store:
        return self

    def _path(self, key: str) -> Path:
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise StoreError(f"key {key!r}: expected a relative path without `..`")
        return self.folder / pure

    @contextmanager
    def _aside(self, key: str) -> Iterator[Path]:
        """Give a file beside the object's; on a full disk nothing stays of it."""
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _missing(self, key: str) -> MissingObjectError:
        return MissingObjectError(f"no object {key!r} in {self.url}")


class S3Store:
    """A bucket of any S3 server that knows conditional puts (If-None-Match)."""

    def __init__(self, *, bucket: str, prefix: str, client: "S3Client | None" = None) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = client or _s3_client()

    def get(self, key: str) -> bytes:
        return self._read(key, range_header=None)

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        try:
            return self._read(key, range_header=f"bytes={start}-{start + length - 1}")
        except _PastEndError:
            return b""

    def size(self, key: str) -> int:
        with self._errors("size", key):
            return self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)[
                "ContentLength"
            ]

    def put(self, key: str, data: bytes) -> None:
        with self._errors("put", key):
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        try:
            with self._errors("put", key):
                self._client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=data, IfNoneMatch="*"
                )
        except _TakenError:
            return False
        return True

    def upload(self, key: str, path: Path) -> None:
        with self._errors("upload", key):
            self._client.upload_file(str(path), self.bucket, self.prefix + key)

    def download(self, key: str, path: Path) -> None:
        with self._errors("download", key):
            self._client.download_file(self.bucket, self.prefix + key, str(path))

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except MissingObjectError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors("list", prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for entry in page.get("Contents", []):
                    yield ObjectInfo(entry["Key"].removeprefix(self.prefix), entry["Size"])

    def delete(self, key: str) -> None:
        with self._errors("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def clear(self, prefix: str) -> None:
        _delete_all(self, prefix)

    def under(self, prefix: str) -> Store:
        inner = (self.prefix + prefix).strip("/")
        return S3Store(bucket=self.bucket, prefix=inner, client=self._client)

    def hasty(self) -> Store:
        client = _s3_client(attempts=1, answer_within=HASTE)
        return S3Store(bucket=self.bucket, prefix=self.prefix.strip("/"), client=client)

    def _read(self, key: str, *, range_header: str | None) -> bytes:
        with self._errors("get", key):
            if range_header is None:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            else:
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=self.prefix + key, Range=range_header
                )
            return answer["Body"].read()

    def _errors(self, verb: str, key: str) -> "_S3Errors":
        return _S3Errors(f"{verb} {key!r} in {self.url}")


REFUSALS: Mapping[str, type[StoreError]] = {
    "NoSuchBucket": MissingBucketError,
    "AccessDenied": RefusedKeysError,
    "InvalidAccessKeyId": RefusedKeysError,
    "SignatureDoesNotMatch": RefusedKeysError,
    "ExpiredToken": RefusedKeysError,
    "403": RefusedKeysError,
}
"""What S3's codes mean; a HEAD has no code but its status."""


class _TakenError(StoreError):
    pass


class _PastEndError(StoreError):
    pass


class _S3Errors:
    """Turns boto's exceptions into ours, with what and where."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in {"404", "NoSuchKey", "NotFound"}:
                raise MissingObjectError(f"no object: {self.what}") from error
            # Two conditional puts at once: S3 answers 409 to the one that lost.
            if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
                raise _TakenError(self.what) from error
            # Of an empty object every range begins past the end.
            if code in {"InvalidRange", "416"}:
                raise _PastEndError(self.what) from error
            raise REFUSALS.get(code, StoreError)(f"{self.what}: {error}") from error
        if isinstance(error, NoCredentialsError):
            raise RefusedKeysError(f"{self.what}: {error}") from error
        if isinstance(error, BotoCoreError):
            raise StoreError(f"{self.what}: {error}") from error


def _s3_client(*, attempts: int = 5, answer_within: float = ANSWER_WITHIN) -> "S3Client":
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={"addressing_style": "path"},
        connect_timeout=min(CONNECT_WITHIN, answer_within),
        read_timeout=answer_within,
    )
    return boto3.client("s3", config=config)


def _delete_all(store: Store, prefix: str) -> None:
    for info in store.list(prefix):
        store.delete(info.key)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
