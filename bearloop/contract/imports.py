"""What an import job is told, and what it answers."""

from typing import Annotated, Literal

from pydantic import Field

from bearloop.contract.record import Record

SPLIT_FOLDERS: dict[str, Literal["train", "valid", "test"]] = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
"""Folder names that name a split when they stand above the class folders."""


class Labels(Record):
    """A CSV file inside a folder or a zip that says which file has which label."""

    path: str
    """Relative to the root of the folder or the zip."""
    file_column: str = "name"
    """Names a file below the root or beside the CSV; however either writes its accents."""
    label_column: str = "label"
    split_column: str | None = None
    suffix: str = ""
    """Added to every name of the file column, e.g. `.jpg`."""


class FolderSource(Record):
    """A folder whose first level (or second, below train/valid/test) names the classes."""

    kind: Literal["folder"] = "folder"
    uri: str
    """`file:///…` (local mode only) or `s3://bucket/prefix` within what the operator lists."""
    labels: Labels | None = None


class ZipSource(Record):
    """An uploaded zip file with the same layouts as a folder; its names are UTF-8, or of DOS."""

    kind: Literal["zip"] = "zip"
    upload: str
    """The sha256 that the upload answered with; the bytes lie at `uploads/<sha256>`."""
    labels: Labels | None = None


class UrlSource(Record):
    """Lists of addresses per class."""

    kind: Literal["urls"] = "urls"
    urls: dict[str, tuple[str, ...]]
    """Class name to its http(s) addresses, one picture each; blank lines are passed over."""
    max_per_class: int | None = Field(default=None, ge=1)


Source = Annotated[FolderSource | ZipSource | UrlSource, Field(discriminator="kind")]


class Limits(Record):
    """What one picture and one fetch may cost."""

    max_bytes: int = 32 * 1024 * 1024
    """Of a picture."""
    max_labels_bytes: int = 256 * 1024 * 1024
    """Of a CSV file of labels: some six million rows."""
    max_pixels: int = 50_000_000
    timeout: float = 20.0
    """Seconds for one address, redirects included."""
    concurrency: int = 32
    """Fetches in flight."""
    max_entries: int = 1_000_000
    """Files in one zip."""
    max_ratio: float = 200.0
    """Unpacked to packed bytes of a zip entry."""


class ImportSpec(Record):
    """Everything an import job needs; no default is read later."""

    kind: Literal["import"] = "import"
    job: str
    project: str
    dataset: str
    source: Source
    limits: Limits = Limits()
    allow_private_addresses: bool = False
    """True only in tests and closed networks whose operator says so."""
    thumbnail_size: int = 192
    """Longest side in pixels of the JPEG thumbnails."""
    only: tuple[int, ...] | None = None
    """Positions of the source lines to take, for a retry of the failed ones; None takes all."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Pods that share the lines, each a run of neighbours."""


class LedgerLine(Record):
    """What became of one source: a row of the ledger's Parquet file, in source order."""

    position: int
    location: str
    """File path inside the source, or address."""
    class_name: str | None
    split: Literal["train", "valid", "test"] | None
    status: Literal["stored", "duplicate", "refused"]
    """`duplicate`: the same bytes came earlier in this import; its claim still counts."""
    code: str | None = None
    """Why it was refused, e.g. `truncated`, `private_address`; stable."""
    detail: str | None = None
    """The same in words, with the way out."""
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    """Size in pixels, after the EXIF orientation was applied."""
    format: str | None = None
    content_type: str | None = None
    """What the host said; None for files."""
    perceptual_hash: int | None = None
    """Signed 64-bit difference hash."""


class ImportOutput(Record):
    """What an import job answers."""

    kind: Literal["import"] = "import"
    ledger_key: str
    """Parquet file of `LedgerLine` rows."""
    stored: int
    duplicates: int
    refused: int
