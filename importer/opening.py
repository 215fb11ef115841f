"""Opens the source of a spec: its lines, in source order, and the way to read them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bearloop.contract.imports import FolderSource, ImportSpec, Labels, UrlSource, ZipSource
from bearloop.contract.jobs import Problem
from bearloop.store import MissingObjectError, Store, StoreError, open_store
from bearloop.store_addresses import climbs, is_within
from importer.archive import Archive
from importer.folder import DiskFolder, Files, StoreFolder
from importer.labels import labelled_lines, read_labels
from importer.problems import TOO_LARGE, RefusedError, SourceError
from importer.sources import Entry, SourceLine, folder_lines, unwrapped, url_lines, visible


class Opened(NamedTuple):
    """A source that may be read."""

    lines: Sequence[SourceLine]
    files: Files | None
    """None for lists of addresses."""


@contextmanager
def opened(spec: ImportSpec, store: Store, *, prefixes: tuple[str, ...] | None) -> Iterator[Opened]:
    """Open the source for as long as it is read; raises SourceError."""
    source, most = spec.source, spec.limits.max_labels_bytes
    match source:
        case UrlSource():
            yield Opened(_taken(url_lines(source), spec), None)
        case ZipSource():
            with _archive(source, store, spec) as archive:
                labels = None if source.labels is None else _plain(source.labels.path)
                entries = unwrapped(visible(archive.entries()), labels=labels)
                lines = _lines(entries, archive, source.labels, most=most)
                yield Opened(_taken(lines, spec), archive)
        case FolderSource():
            files = _folder(source, spec, prefixes)
            entries = visible(_listed(files, source))
            yield Opened(_taken(_lines(entries, files, source.labels, most=most), spec), files)


def _lines(
    entries: list[Entry], files: Files, labels: Labels | None, *, most: int
) -> list[SourceLine]:
    if labels is None:
        return folder_lines(entries)
    path = _plain(labels.path)
    entry = next((entry for entry in entries if entry.path == path), None)
    if entry is None:
        raise SourceError(
            Problem(
                code="no_labels_file",
                detail=f"there is no file {labels.path!r} in the source",
                field="labels.path",
                value=labels.path,
                way_out="name the CSV file relative to the root of the folder or the zip",
            )
        )
    try:
        # Its size is judged when it is read: it may be larger than a picture.
        if entry.refusal is not None and entry.refusal.code != TOO_LARGE:
            raise RefusedError(*entry.refusal)
        data = files.read(entry.number, most=most)
    except RefusedError as error:
        detail, way_out = f"{labels.path}: {error}", "bring the CSV as a plain file of its own"
        if error.refusal.code == TOO_LARGE:
            detail = f"{labels.path} is larger than {most} bytes"
            way_out = "import in parts, each with a CSV of its own"
        raise SourceError(
            Problem(
                code="bad_labels",
                detail=detail,
                field="labels.path",
                value=labels.path,
                way_out=way_out,
            )
        ) from error
    return labelled_lines(entries, read_labels(data, labels), labels)


def _plain(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./")


def _taken(lines: list[SourceLine], spec: ImportSpec) -> list[SourceLine]:
    if not any(line.class_name for line in lines):
        raise SourceError(
            Problem(
                code="no_class",
                detail="no class was found in the source",
                field="source",
                way_out="put the pictures into one folder per class, or name a labels file, "
                "or list at least one address",
            )
        )
    if spec.only is None:
        return lines
    wanted = set(spec.only)
    return [line for line in lines if line.position in wanted]


@contextmanager
def _archive(source: ZipSource, store: Store, spec: ImportSpec) -> Iterator[Archive]:
    with tempfile.TemporaryDirectory(prefix="bearloop-import-") as folder:
        path = Path(folder) / "upload.zip"
        try:
            store.download(f"uploads/{source.upload}", path)
        except MissingObjectError as error:
            raise SourceError(
                Problem(
                    code="missing_upload",
                    detail=f"there is no upload {source.upload}",
                    field="upload",
                    value=source.upload,
                    way_out="upload the zip again, then import what the upload answers",
                )
            ) from error
        with Archive(path, limits=spec.limits, upload=source.upload) as archive:
            yield archive


def _folder(source: FolderSource, spec: ImportSpec, prefixes: tuple[str, ...] | None) -> Files:
    parts = urlsplit(source.uri)
    if prefixes is not None and not _is_below(source.uri, prefixes):
        raise _folder_problem(
            source,
            "forbidden_folder",
            detail=f"{source.uri} lies in no folder that imports may read",
            way_out="have the operator list it, or upload a zip",
        )
    if parts.scheme == "file":
        root = Path(unquote(parts.path))
        if not root.is_dir():
            raise _missing_folder(source)
        return DiskFolder(root, max_bytes=spec.limits.max_bytes)
    if parts.scheme == "s3" and parts.netloc:
        return StoreFolder(open_store(source.uri), max_bytes=spec.limits.max_bytes)
    raise _folder_problem(
        source,
        "bad_uri",
        detail=f"{source.uri!r} is no folder address",
        way_out="write file:///folder or s3://bucket/prefix",
    )


def _is_below(uri: str, prefixes: tuple[str, ...]) -> bool:
    return not climbs(uri) and any(is_within(uri, prefix) for prefix in prefixes)


def _listed(files: Files, source: FolderSource) -> list[Entry]:
    try:
        entries = files.entries()
    except StoreError as error:
        # Only what the caller can mend is the input's fault; an outage is retried.
        if not any(code in str(error) for code in ("NoSuchBucket", "AccessDenied")):
            raise
        raise _missing_folder(source) from error
    if not entries:
        raise _missing_folder(source)
    return entries


def _missing_folder(source: FolderSource) -> SourceError:
    return _folder_problem(
        source,
        "no_such_folder",
        detail=f"{source.uri} is not there, is empty, or may not be read",
        way_out="name a folder that the importer sees",
    )


def _folder_problem(source: FolderSource, code: str, *, detail: str, way_out: str) -> SourceError:
    return SourceError(
        Problem(code=code, detail=detail, field="uri", value=source.uri, way_out=way_out)
    )
