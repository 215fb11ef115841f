"""What the run's page in MLflow says first, in Markdown, and its small tables, as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from bearloop.confusion import Confusion, most_confused
from bearloop.contract.report import SplitFigures, Summary
from bearloop.contract.runs import Curves, RunSpec
from bearloop.diagnosis import Finding, diagnose
from bearloop.intervals import in_words
from bearloop.mlflow_pages import VIEW

MOST_PAIRS: Final = 8
"""Confused pairs that the note lists; the table beside it has all."""
NOTHING_HELD_OUT: Final = (
    "**No error is measured:** the run was trained on every labelled image, the valid and test "
    "ones too, so nothing is held out. How good such a model is tells its twin: a run of the same "
    "recipe on the same version with its splits kept."
)
TABLES: Final = "tables"
PLOTS: Final = "plots"


@dataclass(frozen=True)
class Page:
    """Where a run is shown, and what the worker knows of it."""

    address: str
    """Of the run in MLflow's pages, from `#` on."""
    tags: Mapping[str, str]
    """Of the run, as the worker set them."""


def write_note(
    spec: RunSpec, *, page: Page, summary: Summary, curves: Curves, plots: Iterable[str]
) -> str:
    """Write what a reader wants first: how good it is, on what, by what, and what went wrong."""
    valid = summary.splits.get("valid")
    names = {entry.id: entry.name for entry in spec.classes}
    # MLflow folds the note up behind a few lines: what leads on stands among them.
    parts = [_headline(valid), _links(page, plots), _about(spec, page), _figures(summary)]
    if spec.recipe.train_on == "all":
        parts.insert(0, NOTHING_HELD_OUT)
    if valid is not None:
        confused = most_confused(summary.classes, valid.confusion, least=1)
        parts.append(_confused(confused, names))
        parts.append(_findings(diagnose(curves, classes=len(names), error=valid.error)))
    return "\n\n".join(part for part in parts if part) + "\n"


def write_tables(spec: RunSpec, *, summary: Summary, curves: Curves) -> dict[str, bytes]:
    """Write the epochs as the lesson's recorder prints them, and the confused pairs: CSV by name.

    Only the valid split's pairs are listed; where nothing was held out there is no such table.
    """
    names = {entry.id: entry.name for entry in spec.classes}
    valid = summary.splits.get("valid")
    tables = {"epochs.csv": _csv(EPOCHS, _epochs(curves))}
    if valid is not None:
        pairs = most_confused(summary.classes, valid.confusion, least=1)
        tables["most-confused.csv"] = _csv(
            ("label", "predicted", "images"),
            ([names[pair.label], names[pair.predicted], pair.images] for pair in pairs),
        )
    return tables


EPOCHS: Final = (
    "stage",
    "epoch",
    "train_loss",
    "valid_loss",
    "valid_loss_low",
    "valid_loss_high",
    "error_rate",
    "error_low",
    "error_high",
    "time",
)


def _headline(valid: SplitFigures | None) -> str:
    if valid is None:
        return ""
    with_views = (
        "" if valid.tta_error is None else f"; averaged over views {valid.tta_error.value:.1%}"
    )
    return f"**Error on valid images: {in_words(valid.error)}**{with_views}."


def _about(spec: RunSpec, page: Page) -> str:
    dataset, version = (page.tags.get(f"bearloop.{key}") for key in ("dataset", "dataset_version"))
    what = f"**{dataset}**, version {version}" if dataset and version else "a version"
    recipe = spec.recipe
    return (
        f"Run {spec.run} of project {spec.project} on {what} (`{spec.version_digest[:12]}`), "
        f"{len(spec.classes)} classes. Recipe **{recipe.name}** (`{recipe.digest()[:12]}`): "
        f"{recipe.model}, weights {recipe.weights}, {recipe.preprocess.size} pixels, "
        f"seed {spec.seed}."
    )


def _figures(summary: Summary) -> str:
    if not summary.splits:
        return ""
    lines = []
    for split, figures in summary.splits.items():
        views = "" if figures.tta_error is None else f"; views {in_words(figures.tta_error)}"
        log_loss = f"log loss {figures.log_loss:.4f}"
        if figures.log_loss_low is not None and figures.log_loss_high is not None:
            log_loss += f" ({figures.log_loss_low:.4f} to {figures.log_loss_high:.4f})"
        lines.append(f"- **{split}**: {in_words(figures.error)}{views}; {log_loss}")
    return "\n".join(["**Errors**, each with its 95 % interval", "", *lines])


def _confused(pairs: Sequence[Confusion], names: Mapping[int, str]) -> str:
    if not pairs:
        return ""
    lines = [
        f"- {_plain(names[one.label])} taken for {_plain(names[one.predicted])}: {one.images}"
        for one in pairs[:MOST_PAIRS]
    ]
    return "\n".join(["**Most confused** of the valid images", "", *lines])


def _findings(findings: Sequence[Finding]) -> str:
    lines = [
        f"- `{one.code}`: {_plain(one.evidence)}. **Way out:** {_plain(one.way_out)}."
        for one in findings
    ]
    return "\n".join(["**What to look at**", "", *lines]) if lines else ""


def _links(page: Page, plots: Iterable[str]) -> str:
    files = [*(f"{PLOTS}/{name}" for name in plots), f"{TABLES}/epochs.csv"]
    return " · ".join(
        f"[{_title(path)}]({page.address}/artifacts/{quote(path)}{VIEW})" for path in files
    )


def _title(path: str) -> str:
    """Return `top losses` for `plots/4-top-losses.png`."""
    name = path.rpartition("/")[2].rpartition(".")[0]
    return name.lstrip("0123456789-").replace("-", " ")


def _plain(text: str) -> str:
    """Keep a class's name from being read as Markdown or HTML."""
    for mark in ("\\", "`", "*", "_", "[", "]", "<", ">", "|", "#", "!", "~"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


def _epochs(curves: Curves) -> Iterator[list[object]]:
    for point in curves.epochs:
        ends = (None, None) if point.error is None else (point.error.low, point.error.high)
        losses = (point.train_loss, point.valid_loss, point.valid_loss_low, point.valid_loss_high)
        yield [
            point.stage,
            point.epoch,
            *map(_short, (*losses, point.error_rate, *ends)),
            f"{int(point.seconds) // 60:02d}:{int(point.seconds) % 60:02d}",
        ]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
