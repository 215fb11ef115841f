"""Datasets, imports and versions."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bearloop.client.connection import Connection, Counted, place
from bearloop.client.views import DatasetView, ImportView, LedgerLineView, VersionView
from bearloop.client.waiting import JobFailedError, wait_until_ended
from bearloop.contract.imports import Source


class Datasets:
    """The project's datasets."""

    def __init__(self, connection: Connection, below: str) -> None:
        self._connection = connection
        self._path = f"{below}/datasets"

    def create(
        self, name: str, *, valid_share: float = 0.2, test_share: float = 0.0, seed: int = 42
    ) -> DatasetView:
        """Make a dataset."""
        body = {"name": name, "valid_share": valid_share, "test_share": test_share, "seed": seed}
        return DatasetView.model_validate(self._connection.post(self._path, body))

    def get(self, name: str) -> DatasetView:
        """Return one dataset."""
        return DatasetView.model_validate(self._connection.get(place(self._path, name)))

    def list(self) -> Iterator[DatasetView]:
        """Walk all datasets."""
        return map(DatasetView.model_validate, self._connection.items(self._path))

    def profile(self, name: str) -> dict[str, Any]:
        """Return counts per class and split, and sizes, as the API gives them."""
        answer: dict[str, Any] = self._connection.get(place(self._path, name, "profile"))
        return answer

    def upload(self, name: str, zipped: Path | bytes, *, show: Counted | None = None) -> str:
        """Upload a zip, best as a file: it is not held in memory; return a ZipSource's name."""
        if isinstance(zipped, bytes):
            with TemporaryDirectory(prefix="bearloop-") as folder:
                file = Path(folder) / "upload.zip"
                file.write_bytes(zipped)
                return self.upload(name, file, show=show)
        path = place(self._path, name, "uploads")
        return str(self._connection.upload(path, zipped, show=show)["upload"])

    def start_import(self, name: str, source: Source) -> ImportView:
        """Begin to bring images in."""
        body = source.model_dump(mode="json")
        return ImportView.model_validate(
            self._connection.post(place(self._path, name, "imports"), body)
        )

    def get_import(self, name: str, number: int) -> ImportView:
        """Return one import as it stands."""
        return ImportView.model_validate(
            self._connection.get(place(self._path, name, "imports", number))
        )

    def wait_for_import(
        self, name: str, number: int, *, show: Callable[[ImportView], None] | None = None
    ) -> ImportView:
        """Wait until an import is done; raises JobFailedError with the reason when it is not."""
        ended = wait_until_ended(lambda: self.get_import(name, number), show=show)
        if ended.state != "done":
            raise JobFailedError(f"import {number} of {name}: {ended.why}")
        return ended

    def ledger(
        self, name: str, number: int, *, status: str | None = None
    ) -> Iterator[LedgerLineView]:
        """Walk what became of each source of an import."""
        path = place(self._path, name, "imports", number, "sources")
        return map(LedgerLineView.model_validate, self._connection.items(path, status=status))

    def images(self, name: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """Walk the images as they stand; filters: label, split, state, removed."""
        return self._connection.items(place(self._path, name, "images"), **filters)

    def content(self, name: str, sha256: str) -> bytes:
        """Return an image's original bytes."""
        return self._connection.get_bytes(place(self._path, name, "images", sha256, "content"))

    def contact_sheet(
        self, name: str, *, recipe: str | None = None, run: int | None = None, **asked: Any
    ) -> bytes:
        """Return pictures as one PNG: as stored, or what a recipe or a run trains on, as it does.

        Further: seed, n, split (one that is not trained on, too), and `class` as
        `**{"class": name}`.
        """
        path = place(self._path, name, "contact-sheet.png")
        return self._connection.get_bytes(path, recipe=recipe, run=run, **asked)

    def freeze(self, name: str) -> VersionView:
        """Freeze what there is now; the same content again is the same version."""
        return VersionView.model_validate(
            self._connection.post(place(self._path, name, "versions"))
        )

    def version(self, name: str, number: int) -> VersionView:
        """Return one version."""
        return VersionView.model_validate(
            self._connection.get(place(self._path, name, "versions", number))
        )

    def versions(self, name: str) -> Iterator[VersionView]:
        """Walk all versions."""
        return map(
            VersionView.model_validate, self._connection.items(place(self._path, name, "versions"))
        )

    def diff(self, name: str, number: int, *, against: int) -> dict[str, Any]:
        """Return what version `number` has that `against` has not, and the other way round."""
        path = place(self._path, name, "versions", number, "diff")
        answer: dict[str, Any] = self._connection.get(path, against=against)
        return answer
