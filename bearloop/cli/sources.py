"""What the user names on the command line, as an import's source: folder, zip, or address lists."""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bearloop.contract.imports import Labels, UrlSource

PASSED_OVER = {"Thumbs.db", "desktop.ini"}


class SourceError(ValueError):
    """The command line names no source that can be imported."""


@dataclass(frozen=True)
class AskedLabels:
    """What the command line says of a labels CSV; None leaves the contract's default."""

    path: Path | None = None
    file_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    suffix: str | None = None


NO_LABELS = AskedLabels()


def dataset_name(source: Path) -> str:
    """Make a dataset's name of a folder's or a file's."""
    path = source.resolve()
    name = path.name if path.is_dir() else path.stem
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-") or "images"


def files_in(folder: Path) -> list[Path]:
    """List a folder's files, without what file managers leave; raises SourceError when empty."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and _wanted(path.relative_to(folder))
    )
    if not files:
        raise SourceError(f"{folder}: no file in it; name a folder whose subfolders are classes")
    return files


def zip_folder(
    folder: Path, into: Path, *, labels: Path | None = None, show: Callable[[int, int], None]
) -> str | None:
    """Pack a folder into a file for the upload; return the labels file's name inside."""
    files = files_in(folder)
    inside = None if labels is None else name_inside(labels, folder)
    # Pictures are packed already; and a camera without a clock says 1970, before zip's first year.
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for done, path in enumerate(files, 1):
            _pack(archive, path, path.relative_to(folder).as_posix())
            show(done, len(files))
        if labels is not None and inside not in archive.namelist():
            _pack(archive, labels, str(inside))
    return inside


def read_lists(paths: Sequence[Path], class_names: Sequence[str]) -> UrlSource:
    """Read one address list per class; the class is the file's name without `urls_`."""
    if class_names and len(class_names) != len(paths):
        raise SourceError(f"{len(class_names)} --class for {len(paths)} lists; give one for each")
    names = class_names or [path.stem.removeprefix("urls_") for path in paths]
    urls: dict[str, tuple[str, ...]] = {}
    for name, path in zip(names, paths, strict=True):
        if path.suffix != ".txt":
            raise SourceError(
                f"{path}: no address list; name .txt files only, or one folder or zip"
            )
        if name in urls:
            raise SourceError(f"{path}: a second list of class {name}; name it with --class")
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        urls[name] = tuple(line.strip() for line in lines if line.strip())
    return UrlSource(urls=urls)


def read_labels(inside: str | None, asked: AskedLabels) -> Labels | None:
    """Make the labels' description, or None when the folders name the classes."""
    if inside is None:
        return None
    columns = {
        "file_column": asked.file_column,
        "label_column": asked.label_column,
        "split_column": asked.split_column,
        "suffix": asked.suffix,
    }
    return Labels.model_validate({"path": inside, **{k: v for k, v in columns.items() if v}})


def name_inside(labels: Path, folder: Path) -> str:
    """Return the labels file's name in a folder: its own place there, or the folder's root."""
    file, root = labels.resolve(), folder.resolve()
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _wanted(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.name not in PASSED_OVER


def _pack(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    try:
        archive.write(path, name)
    except UnicodeEncodeError as error:
        raise SourceError(f"{name!r}: the file's name is no text; rename it") from error
