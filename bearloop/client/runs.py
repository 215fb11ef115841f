"""Runs: train, watch, and read what a run says."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from bearloop.client.connection import Connection, place
from bearloop.client.views import (
    ComparisonView,
    ConfusedView,
    DiagnosisView,
    LrFindsView,
    LrFindView,
    ReportView,
    RunFilesView,
    RunView,
    SpreadView,
)
from bearloop.client.waiting import JobFailedError, wait_until_ended
from bearloop.contract.runs import Curves

if TYPE_CHECKING:
    from pyarrow import Table


class Runs:
    """The project's runs."""

    def __init__(self, connection: Connection, below: str) -> None:
        self._connection = connection
        self._path = f"{below}/runs"

    def start(self, dataset: str, version: int | None = None, **asked: Any) -> list[RunView]:
        """Queue a run, or with `seeds=n` several; further fields as `POST /runs` has them."""
        body = {"dataset": dataset, "version": version, **asked}
        answer = self._connection.post(self._path, body)
        return [RunView.model_validate(run) for run in answer["items"]]

    def get(self, number: int) -> RunView:
        """Return one run as it stands."""
        return RunView.model_validate(self._connection.get(place(self._path, number)))

    def list(self) -> Iterator[RunView]:
        """Walk all runs, newest first."""
        return map(RunView.model_validate, self._connection.items(self._path))

    def wait(self, number: int, *, show: Callable[[RunView], None] | None = None) -> RunView:
        """Wait until a run is done; raises JobFailedError with the reason when it is not."""
        ended = wait_until_ended(lambda: self.get(number), show=show)
        if ended.state != "done":
            raise JobFailedError(f"run {number}: {ended.why}")
        return ended

    def cancel(self, number: int) -> RunView:
        """Ask a run to end."""
        return RunView.model_validate(self._connection.post(place(self._path, number, "cancel")))

    def logs(self, number: int) -> str:
        """Return what the run's newest attempt printed."""
        return str(self._connection.get(place(self._path, number, "logs"))["text"])

    def spec(self, number: int) -> dict[str, Any]:
        """Return all that the run was told: saved, `python -m trainer --spec` runs it again."""
        return dict(self._connection.get(place(self._path, number, "spec")))

    def files(self, number: int) -> RunFilesView:
        """Return where the run's files lie in the store."""
        return RunFilesView.model_validate(self._connection.get(place(self._path, number, "files")))

    def table(self, number: int, what: Literal["steps", "epochs", "images"]) -> "Table":
        """Return the run's steps, epochs or images as a pyarrow table; `.to_pandas()` goes on.

        Images come page by page, the highest loss first: where the store can be read, read the
        files that `files` names. Raises ImportError without pyarrow.
        """
        # What an SDK needs has no pyarrow in it.
        from pyarrow import Table

        from bearloop.curves_file import epochs_table, steps_table

        if what == "images":
            return Table.from_pylist(list(self.images(number)))
        curves = Curves.model_validate(self._connection.get(place(self._path, number, "curves")))
        return steps_table(curves) if what == "steps" else epochs_table(curves)

    def report(self, number: int) -> ReportView:
        """Return the run's figures per split."""
        return ReportView.model_validate(self._connection.get(place(self._path, number, "report")))

    def diagnosis(self, number: int) -> DiagnosisView:
        """Return what went wrong with the run's rate, its epochs or its valid split."""
        answer = self._connection.get(place(self._path, number, "diagnosis"))
        return DiagnosisView.model_validate(answer)

    def lr_finds(self, number: int) -> tuple[LrFindView, ...]:
        """Return the rates that each lr-find of the run suggests."""
        answer = self._connection.get(place(self._path, number, "lr-finder"))
        return LrFindsView.model_validate(answer).finds

    def lr_finder_picture(self, number: int, *, stage: str | None = None) -> bytes:
        """Return the curve and suggestions of an lr-find as PNG: the first, or a stage's."""
        path = place(self._path, number, "lr-finder.png")
        return self._connection.get_bytes(path, stage=stage)

    def most_confused(self, number: int, *, least: int = 1) -> tuple[ConfusedView, ...]:
        """Return pairs of classes by how often one was taken for the other."""
        answer = self._connection.get(place(self._path, number, "most-confused"), min=least)
        return tuple(ConfusedView.model_validate(pair) for pair in answer["pairs"])

    def images(self, number: int, *, order: str = "loss") -> Iterator[dict[str, Any]]:
        """Walk what the run says of every image, in the order of loss or label_issue."""
        return self._connection.items(place(self._path, number, "images"), order=order)

    def spread(self, number: int, *, split: str | None = None) -> SpreadView:
        """Return how far the seeds of the run's version and recipe lie apart."""
        answer = self._connection.get(place(self._path, number, "spread"), split=split)
        return SpreadView.model_validate(answer)

    def compare(self, a: int, b: int) -> ComparisonView:
        """Compare two runs on the same images."""
        answer = self._connection.get(place(self._path, "compare"), a=a, b=b)
        return ComparisonView.model_validate(answer)
