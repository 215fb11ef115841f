"""What a source must be before a job is made of it; the rest becomes lines of the ledger."""

import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from api.allowed_sources import check_address
from api.errors import UnprocessableError
from bearloop.contract.imports import FolderSource, Labels, Source, UrlSource, ZipSource
from bearloop.store import Store

SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_CLASS_NAME = 200
"""Characters."""


class NoSuchFolderError(UnprocessableError):
    """There is no such folder on this machine."""

    code = "no_such_folder"
    title = "No such folder"


class UnknownUploadError(UnprocessableError):
    """Nothing was uploaded under this sha256."""

    code = "unknown_upload"
    title = "Unknown upload"


class EmptySourceError(UnprocessableError):
    """The source lists nothing."""

    code = "empty_source"
    title = "Empty source"


class BadClassNameError(UnprocessableError):
    """A class name that is empty, too long, or there twice."""

    code = "bad_class_name"
    title = "Bad class name"


class BadLabelsPathError(UnprocessableError):
    """The labels file is not named by a path inside the source."""

    code = "bad_labels_path"
    title = "Bad labels path"


class Surroundings(NamedTuple):
    """What a source is checked against."""

    store: Store
    """The project's."""
    allowed: tuple[str, ...]
    """Prefixes that the operator lists for the project."""
    local: bool


def check_source(source: Source, around: Surroundings) -> None:
    """Refuse a source that no job could import; each error names field, value and way out."""
    match source:
        case FolderSource():
            _check_folder(source, around)
            _check_labels(source.labels)
        case ZipSource():
            _check_upload(source, around.store)
            _check_labels(source.labels)
        case UrlSource():
            _check_urls(source)


def upload_key(sha256: str) -> str:
    """Return the key of an uploaded zip in the project's store."""
    return f"uploads/{sha256}"


def _check_folder(source: FolderSource, around: Surroundings) -> None:
    check_address(source.uri, allowed=around.allowed, local=around.local, field="uri")
    parts = urlsplit(source.uri)
    # Elsewhere the folder may be mounted in the job's pod only; there the job says it.
    if around.local and parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise NoSuchFolderError(
            f"there is no folder {unquote(parts.path)}",
            field="uri",
            value=source.uri,
            way_out="name a folder of this machine by its whole path: file:///…",
        )


def _check_labels(labels: Labels | None) -> None:
    if labels is None:
        return
    segments = labels.path.split("/")
    if not labels.path or labels.path.startswith("/") or ".." in segments or "\\" in labels.path:
        raise BadLabelsPathError(
            f"{labels.path!r} is no path inside the source",
            field="labels.path",
            value=labels.path,
            way_out="write it relative to the source's root, with `/`: labels.csv",
        )


def _check_upload(source: ZipSource, store: Store) -> None:
    known = SHA256.fullmatch(source.upload) and store.exists(upload_key(source.upload))
    if not known:
        raise UnknownUploadError(
            f"there is no upload {source.upload!r} in this project",
            field="upload",
            value=source.upload,
            way_out="POST the zip to …/uploads and take `upload` of the answer",
        )


def _check_urls(source: UrlSource) -> None:
    if not source.urls:
        raise EmptySourceError(
            "no class is listed",
            field="urls",
            value={},
            way_out='list addresses per class: {"black": ["https://…"], …}',
        )
    for name, addresses in source.urls.items():
        _check_class_name(name)
        if not any(address.strip() for address in addresses):
            raise EmptySourceError(
                f"the class {name!r} lists no address",
                field=f"urls.{name}",
                value=list(addresses),
                way_out="list at least one address, or leave the class out",
            )
    # As the importer reads them: two spellings of one name would silently become one class.
    spelt = Counter(_normal(name) for name in source.urls)
    for name, count in spelt.items():
        if count > 1:
            raise BadClassNameError(
                f"the class {name!r} is listed {count} times, in different spellings",
                field="urls",
                value=name,
                way_out="put its addresses into one list",
            )


def _check_class_name(name: str) -> None:
    if not _normal(name) or len(name) > MAX_CLASS_NAME or not name.isprintable():
        raise BadClassNameError(
            f"{name!r} is no class name",
            field="urls",
            value=name,
            way_out=f"give it 1 to {MAX_CLASS_NAME} printable characters",
        )


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()
