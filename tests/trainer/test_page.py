"""What a run's page in MLflow says first, and what its small tables hold."""

import csv
import io

import pytest

from bearloop.contract.recipes import FitStage, Recipe
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import SplitFigures, Summary
from bearloop.contract.runs import Curves, EpochPoint, RunSpec, StepPoint
from bearloop.intervals import in_words, wilson
from trainer.page import Page, write_note, write_tables

CLASSES = tuple(
    ClassEntry(id=10 * n, name=name, position=n)
    for n, name in enumerate(["black bear", "griz*zly", "<b>teddy"])
)
SPEC = RunSpec(
    job="job-1",
    project="forest",
    run=7,
    version_digest="ab" * 32,
    manifest_key="manifest.parquet",
    classes=CLASSES,
    recipe=Recipe(name="short", stages=(FitStage(name="head", epochs=1, lr=0.01),)),
    code_version="0.1.0",
)
PAGE = Page(
    address="#/experiments/1/runs/ab",
    tags={"bearloop.dataset": "bears", "bearloop.dataset_version": "2"},
)
CURVES = Curves(
    epochs=(
        EpochPoint(
            stage="head",
            epoch=1,
            train_loss=0.5,
            valid_loss=0.4,
            valid_loss_low=0.1,
            valid_loss_high=0.7,
            error_rate=0.25,
            error=wilson(3, 12),
            seconds=75.2,
        ),
        EpochPoint(
            stage="head", epoch=2, train_loss=0.4, valid_loss=0.4, error_rate=0.25, seconds=5
        ),
    ),
    steps=(StepPoint(step=1, loss=1.1, lr=0.01, momentum=0.9),),
)

LOSSES = ["0.400000", "0.100000", "0.700000"]
ENDS = [f"{end:.6f}" for end in (wilson(3, 12).low, wilson(3, 12).high)]


def summary(*, wrong: int = 3, n: int = 12) -> Summary:
    figures = SplitFigures(
        images=n,
        error=wilson(wrong, n),
        log_loss=0.4,
        tta_error=wilson(2, n),
        confusion=((4, 2, 0), (1, 3, 0), (0, 0, 2)),
    )
    return Summary(classes=(0, 10, 20), splits={"valid": figures}, conflicts=0)


def note(page: Page = PAGE) -> str:
    plots = ("1-losses.png", "5-lr-finder-head one.png")
    return write_note(SPEC, page=page, summary=summary(), curves=CURVES, plots=plots)


def test_the_error_and_its_interval_come_first() -> None:
    first = note().splitlines()[0]
    assert in_words(wilson(3, 12)) == "25.0% (8.9% to 53.2%), 3 of 12"
    assert in_words(wilson(3, 12)) in first
    assert "averaged over views 16.7%" in first


def test_it_says_what_was_trained_on_what() -> None:
    assert "**bears**, version 2 (`abababababab`), 3 classes" in note()
    assert f"**short** (`{SPEC.recipe.digest()[:12]}`)" in note()
    assert "seed 42" in note()
    # A run that somebody else's tool made has no such tags.
    assert "on a version (`abababababab`)" in note(Page(address="#", tags={}))


def test_the_most_confused_pairs_stand_in_their_order_and_names_are_no_markup() -> None:
    text = note()
    first, second = (text.index(f"{n}\n") for n in ("griz\\*zly: 2", "black bear: 1"))
    assert first < second
    assert "<b>" not in text


def test_what_went_wrong_is_said_with_the_way_out() -> None:
    assert "`valid_split_too_small`" in note()
    assert ". **Way out:** bring in images until some" in note()


def test_links_lead_to_the_plots_from_what_mlflow_shows_unfolded() -> None:
    assert note().splitlines()[2].startswith("[losses]")
    base = "(#/experiments/1/runs/ab/artifacts"
    assert f"[losses]{base}/plots/1-losses.png?" in note()
    assert f"[lr finder head one]{base}/plots/5-lr-finder-head%20one.png?" in note()


def test_a_run_on_all_images_says_so_and_shows_no_figure() -> None:
    empty = Summary(classes=(0, 10, 20), splits={}, conflicts=0)
    full = SPEC.model_copy(update={"recipe": SPEC.recipe.model_copy(update={"train_on": "all"})})
    figures = ("valid_loss", "valid_loss_low", "valid_loss_high", "error_rate", "error")
    unmeasured = dict.fromkeys(figures)
    epochs = tuple(point.model_copy(update=unmeasured) for point in CURVES.epochs)
    curves = CURVES.model_copy(update={"epochs": epochs})
    text = write_note(full, page=PAGE, summary=empty, curves=curves, plots=())
    assert text.startswith("**No error is measured:**")
    assert "its twin" in text
    assert "Run 7" in text
    for absent in ("Errors", "Most confused", "What to look at", "%"):
        assert absent not in text
    tables = write_tables(full, summary=empty, curves=curves)
    assert list(tables) == ["epochs.csv"]
    rows = list(csv.reader(io.StringIO(tables["epochs.csv"].decode())))[1:]
    assert rows[0] == ["head", "1", "0.500000", *[""] * 6, "01:15"]
    # Nothing of this in the note of a run that held images out.
    assert "No error is measured" not in note()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "epochs.csv",
            [
                ["head", "1", "0.500000", *LOSSES, "0.250000", *ENDS, "01:15"],
                ["head", "2", "0.400000", "0.400000", "", "", "0.250000", "", "", "00:05"],
            ],
        ),
        ("most-confused.csv", [["black bear", "griz*zly", "2"], ["griz*zly", "black bear", "1"]]),
    ],
)
def test_tables_are_csv(name: str, rows: list[list[str]]) -> None:
    made = write_tables(SPEC, summary=summary(), curves=CURVES)[name].decode()
    assert list(csv.reader(io.StringIO(made)))[1:] == rows
