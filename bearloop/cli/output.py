"""How commands speak: a table or JSON on stdout; progress, hints and errors on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from bearloop.client.views import JobView, MetricView

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

said = Console(stderr=True, highlight=False)
shown = Console(highlight=False)


def print_json(content: Any) -> None:
    """Print a record, or a list of records, as JSON."""
    json.dump(_plain(content), sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_table(title: str, rows: Sequence[Sequence[Any]], *, columns: Sequence[str]) -> None:
    """Print rows under named columns; numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for place, column in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][place], int | float)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    shown.print(table)


def hint(text: str) -> None:
    """Say in one line what comes next."""
    said.print(f"next: {text}", style="dim", markup=False, soft_wrap=True)


def fail(error: Exception) -> None:
    """Say in one line what went wrong."""
    said.print(f"error: {error}", style="red", markup=False, soft_wrap=True)


def percent(share: float) -> str:
    """Write a share as people do."""
    return f"{share:.1%}"


def interval(metric: MetricView) -> str:
    """Write a metric's 95 % interval."""
    return f"{percent(metric.low)} - {percent(metric.high)}"


@contextmanager
def count_bar(title: str, *, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show how much of how much is done; gives what to tell both."""
    amount = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    with Progress(*columns, console=said, transient=True) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, of: progress.update(bar, completed=done, total=of)


@contextmanager
def job_bar(title: str) -> Iterator[Callable[[JobView], None]]:
    """Show a job's progress while it runs; gives what to call with each look at it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=said, transient=True) as progress:
        bar = progress.add_task(title, total=None, figures="")
        told = ""

        def show(job: JobView) -> None:
            nonlocal told
            at = job.progress
            if at is None:
                progress.update(bar, description=f"{title}: {job.reason or job.state}")
                return
            if at.message and at.message != told:
                told = at.message
                said.print(f"{title}: {told}", style="yellow", markup=False, soft_wrap=True)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in at.numbers.items())
            progress.update(
                bar,
                description=f"{title}: {at.stage}",
                completed=at.done,
                total=at.total,
                figures=figures,
            )

        yield show


def _plain(content: Any) -> Any:
    if isinstance(content, BaseModel):
        return content.model_dump(mode="json")
    if isinstance(content, list | tuple):
        return [_plain(item) for item in content]
    return content
