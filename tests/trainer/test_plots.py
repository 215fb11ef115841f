"""Every plot is a whole picture, whatever the run looked like."""

import io
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from bearloop.contract.record import ClassEntry
from bearloop.contract.report import Metric, ReportRow, SplitFigures
from bearloop.contract.runs import Curves, EpochPoint, LrFind, StepPoint
from trainer.plots import (
    VALID_COLOUR,
    draw_confusion,
    draw_losses,
    draw_lr_find,
    draw_plots,
    draw_rates,
    draw_top_losses,
    smoothed,
)

Draw = Callable[[Curves], bytes]
CLASSES = tuple(
    ClassEntry(id=10 * n, name=name, position=n)
    for n, name in enumerate(["black bear", "grizzly", "teddy"])
)


def curves(epochs: int, steps: int = 40) -> Curves:
    rng = np.random.default_rng(0)
    total = epochs * steps
    return Curves(
        steps=tuple(
            StepPoint(
                step=step,
                loss=float(1.2 * np.exp(-2 * step / total) + 0.15 * rng.random()),
                lr=float(1e-3 * (1 - np.cos(2 * np.pi * step / total)) / 2),
                momentum=float(0.95 - 0.05 * (1 - np.cos(2 * np.pi * step / total))),
            )
            for step in range(1, total + 1)
        ),
        epochs=tuple(
            EpochPoint(
                stage="whole",
                epoch=epoch,
                train_loss=1 / epoch,
                valid_loss=0.3 + 0.7 / epoch,
                error_rate=0.2 / epoch,
                seconds=1,
            )
            for epoch in range(1, epochs + 1)
        ),
    )


def lr_find(points: int, *, suggests: bool) -> LrFind:
    rates = [1e-7 * 1e8 ** (step / 100) for step in range(points)]
    losses = [2 - 1.2 / (1 + (3e-4 / rate)) + 10 * rate**2 for rate in rates]
    suggestions = {"minimum": 3e-3, "steepest": 3e-4, "valley": 4e-4, "slide": 2e-2}
    return LrFind.model_validate(
        {
            "stage": "frozen",
            "points": [
                {"lr": rate, "loss": loss + 0.1, "smoothed": loss}
                for rate, loss in zip(rates, losses, strict=True)
            ],
            "end": "finished",
            "suggestions": suggestions if suggests and points else {},
            "no_suggestion": None if suggests else "flat",
            "reason": None if suggests else "at no rate did the model learn",
            "disagreement": None,
            "lr": 4e-4 if suggests else None,
        }
    )


def row(number: int, *, label: int | None) -> ReportRow:
    p = 0.01 * (number + 1)
    return ReportRow(
        sha256=f"{number:064x}",
        split="valid",
        label=label,
        rank=number,
        predicted=20,
        confidence=1 - p,
        p_label=None if label is None else p,
        loss=None if label is None else -float(np.log(p)),
        top_classes=(20, 0),
        top_probabilities=(1 - p, p),
        tta_predicted=None,
        tta_p_label=None,
        oof_predicted=20,
        oof_p_label=None if label is None else p,
        oof_confidence=1 - p,
        label_issue=1 - p,
    )


def picture(number: int) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(0, 256, (48 + 16 * (number % 3), 64, 3))
    return pixels.astype(np.uint8)


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    # Something is drawn: a blank sheet has one colour.
    assert len(np.unique(np.asarray(image.convert("L")))) > 10
    return image


@pytest.mark.parametrize("epochs", [1, 6])
def test_curves_of_short_and_long_runs_are_drawn(epochs: int) -> None:
    opened(draw_losses(curves(epochs)))
    opened(draw_rates(curves(epochs)))


def test_a_valid_loss_is_drawn_with_its_interval_where_that_is_known() -> None:
    older = curves(2)
    ends = {"valid_loss_low": 0.1, "valid_loss_high": 0.9}
    epochs = tuple(point.model_copy(update=ends) for point in older.epochs)
    assert draw_losses(older.model_copy(update={"epochs": epochs})) != draw_losses(older)


@pytest.mark.parametrize("draw", [draw_losses, draw_rates])
def test_stages_are_told_from_each_other_where_there_are_several(draw: Draw) -> None:
    def told(*stages: str) -> Curves:
        run = curves(len(stages))
        marks = zip(run.epochs, stages, strict=True)
        epochs = [
            point.model_copy(update={"stage": stage, "step": 40 * point.epoch})
            for point, stage in marks
        ]
        return run.model_copy(update={"epochs": tuple(epochs)})

    one, two = draw(told("whole", "whole", "whole")), draw(told("head", "whole", "whole"))
    # A name that has no room is left out, a stage's end is not.
    nameless = draw(told("h" * 50, "whole", "whole"))
    assert len({one, two, nameless}) == 3


def test_what_was_not_measured_is_not_drawn() -> None:
    measured = curves(3)
    none = {"valid_loss": None, "error_rate": None, "error": None}
    epochs = tuple(point.model_copy(update=none) for point in measured.epochs)
    unmeasured = measured.model_copy(update={"epochs": epochs})
    plots = draw_plots(
        curves=unmeasured,
        classes=CLASSES,
        valid=None,
        top=[row(0, label=10)],
        pictures=[picture(0)],
    )
    assert sorted(plots) == ["1-losses.png", "2-rates.png", "4-top-losses.png"]
    colours = np.asarray(opened(plots["1-losses.png"]).convert("RGB")).reshape(-1, 3)
    valid = np.array([int(VALID_COLOUR[place : place + 2], 16) for place in (1, 3, 5)])
    assert not (colours == valid).all(axis=1).any()
    drawn = np.asarray(opened(draw_losses(measured)).convert("RGB")).reshape(-1, 3)
    assert (drawn == valid).all(axis=1).any()


@pytest.mark.parametrize("suggests", [True, False])
@pytest.mark.parametrize("points", [0, 1, 90])
def test_an_lr_find_is_drawn_whatever_it_found(points: int, suggests: bool) -> None:
    image = opened(draw_lr_find(lr_find(points, suggests=suggests)))
    assert image.width > image.height


def test_each_lr_find_of_a_run_is_a_plot_of_its_own() -> None:
    searched = curves(2).model_copy(update={"lr_finds": (lr_find(90, suggests=True),)})
    error = Metric(value=0.1, low=0.05, high=0.2, n=10)
    counts = ((3, 1, 0), (0, 3, 0), (0, 0, 3))
    valid = SplitFigures(images=10, error=error, log_loss=0.3, tta_error=None, confusion=counts)
    made = draw_plots(curves=searched, classes=CLASSES, valid=valid, top=[], pictures=[])
    assert "5-lr-finder-frozen.png" in made


@pytest.mark.parametrize("classes", [2, 12, 60])
def test_a_confusion_matrix_of_any_size_is_drawn(classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    counts[0] = 0  # a class without valid images
    names = [f"class {n} with a name that goes on and on" for n in range(classes)]
    image = opened(draw_confusion(counts.tolist(), names))
    assert max(image.size) < 2000


@pytest.mark.parametrize("name", ["$10_$20", "a$_$", r"$\foo$", "$5-$10", "50 % & _more_ {x}"])
def test_a_class_s_name_is_drawn_as_it_is_written(name: str) -> None:
    image = opened(draw_confusion([[1, 0], [0, 1]], [name, "b"]))
    without = opened(draw_confusion([[1, 0], [0, 1]], [name.replace("$", ""), "b"]))
    assert ("$" in name) == (image.tobytes() != without.tobytes())
    classes = [CLASSES[0].model_copy(update={"name": name}), *CLASSES[1:]]
    opened(draw_top_losses([row(0, label=0)], [picture(0)], classes))


@pytest.mark.parametrize("count", [0, 2, 12])
def test_up_to_nine_top_losses_are_drawn(count: int) -> None:
    rows = [row(n, label=None if n == 1 else 10) for n in range(count)]
    opened(draw_top_losses(rows, [picture(n) for n in range(count)], CLASSES))


def test_all_plots_are_drawn_and_drawn_alike_twice() -> None:
    error = Metric(value=0.1, low=0.05, high=0.2, n=10)
    valid = SplitFigures(
        images=10,
        error=error,
        log_loss=0.3,
        tta_error=None,
        confusion=((3, 1, 0), (0, 3, 0), (0, 0, 3)),
    )
    made = [
        draw_plots(
            curves=curves(2),
            classes=CLASSES,
            valid=valid,
            top=[row(0, label=10)],
            pictures=[picture(0)],
        )
        for _ in range(2)
    ]
    assert sorted(made[0]) == ["1-losses.png", "2-rates.png", "3-confusion.png", "4-top-losses.png"]
    assert made[0] == made[1]


def test_the_smoothed_loss_starts_where_the_loss_starts() -> None:
    assert smoothed([2.0])[0] == pytest.approx(2)
    assert smoothed([3.0] * 50) == pytest.approx([3.0] * 50)
    falling = smoothed([1 - 0.01 * n for n in range(50)])
    assert all(after < before for before, after in pairwise(falling))


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, trainer.plots, trainer.tracking\n"
        "print({'matplotlib', 'mlflow'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
