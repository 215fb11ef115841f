"""The run's pictures for MLflow: curves, rate finder, confusion and top losses, as PNG files."""

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.record import ClassEntry
from bearloop.contract.report import ReportRow, SplitFigures
from bearloop.contract.runs import Curves, LrFind, MeasuredEpoch, measured_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOP_LOSSES: Final = 9
TRAIN_COLOUR: Final = "#9db7d5"
SMOOTH_COLOUR: Final = "#2f5d8c"
VALID_COLOUR: Final = "#d1603d"
QUIET_COLOUR: Final = "#777777"
MOST_CELLS: Final = 40
"""Classes up to which each cell of the confusion matrix is written out."""
SMOOTHING: Final = 0.98
"""Of the running mean of the training loss, as in the lesson's recorder; less for short runs, which
it would lag behind."""
AS_WRITTEN: Final[Mapping[str, Any]] = {"parse_math": False}
"""How a class's name is put into a plot: its dollars are no formula's."""
LETTERS: Final = 70
"""Small ones that fit side by side above one of two plots."""


def draw_plots(
    *,
    curves: Curves,
    classes: Sequence[ClassEntry],
    valid: SplitFigures | None,
    top: Sequence[ReportRow],
    pictures: Sequence[NDArray[np.uint8]],
) -> Mapping[str, bytes]:
    """Draw all plots, PNG by file name, which sorts as they are read.

    `pictures` are those of the `top` rows. Where nothing was held out (`valid` is None) there is no
    confusion.
    """
    names = [entry.name for entry in classes]
    confusion = {} if valid is None else {"3-confusion.png": draw_confusion(valid.confusion, names)}
    return {
        **draw_curves(curves),
        **confusion,
        "4-top-losses.png": draw_top_losses(top, pictures, classes),
    }


def draw_curves(curves: Curves) -> Mapping[str, bytes]:
    """Draw what the steps tell, PNG by file name; of a run that has taken none, nothing."""
    trained = {"1-losses.png": draw_losses, "2-rates.png": draw_rates} if curves.steps else {}
    return {
        **{name: draw(curves) for name, draw in trained.items()},
        **{f"5-lr-finder-{find.stage}.png": draw_lr_find(find) for find in curves.lr_finds},
    }


def draw_losses(curves: Curves) -> bytes:
    """Draw the training loss of each step, and each epoch's valid loss and error with intervals.

    Where nothing was held out only the training loss is there.
    """
    measured = measured_epochs(curves)
    figure, axes = _figure(1, 1 + bool(measured), width=11, height=4)
    losses = axes[0]
    steps = [point.step for point in curves.steps]
    raw = [point.loss for point in curves.steps]
    losses.plot(steps, raw, color=TRAIN_COLOUR, linewidth=0.8, label="train, each step")
    losses.plot(steps, smoothed(raw), color=SMOOTH_COLOUR, linewidth=1.8, label="train, smoothed")
    if measured:
        ends = [point.end for point in measured]
        _shade_intervals(
            losses, [(point.end, *point.loss_ends) for point in measured if point.loss_ends]
        )
        _plot_valid(losses, ends, [point.valid_loss for point in measured])
        _draw_errors(axes[1], curves, measured)
    title = "Loss, the valid one with its 95 % interval" if measured else "Loss"
    losses.set(title=title, xlabel="step", ylabel="cross entropy")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    _mark_steps(losses, curves)
    return _png(figure)


def draw_rates(curves: Curves) -> bytes:
    """Draw the head's learning rate and the momentum of each step."""
    figure, axes = _figure(1, 2, width=11, height=3.4)
    steps = [point.step for point in curves.steps]
    axes[0].plot(steps, [point.lr for point in curves.steps], color=SMOOTH_COLOUR)
    axes[0].set(title="Learning rate of the head", xlabel="step", ylabel="rate")
    axes[0].set_ylim(bottom=0)
    axes[1].plot(steps, [point.momentum for point in curves.steps], color=SMOOTH_COLOUR)
    axes[1].set(title="Momentum", xlabel="step", ylabel="momentum")
    for place in axes:
        _mark_steps(place, curves)
    return _png(figure)


def draw_lr_find(find: LrFind) -> bytes:
    """Draw the loss at each rate, and the suggestions where they lie on the smoothed loss."""
    figure, (axes,) = _figure(1, 1, width=7.5, height=4.5)
    rates = [point.lr for point in find.points]
    raw = [point.loss for point in find.points]
    means = [point.smoothed for point in find.points]
    axes.plot(rates, raw, color=TRAIN_COLOUR, linewidth=0.8, label="loss, each step")
    axes.plot(rates, means, color=SMOOTH_COLOUR, linewidth=1.8, label="loss, smoothed")
    marks = zip("osD^", sorted(find.suggestions.items()), strict=False)
    for mark, (name, rate) in marks:
        height = float(np.interp(np.log(rate), np.log(rates), means))
        axes.plot(rate, height, mark, color=VALID_COLOUR, label=f"{name}: {rate:.2g}")
    if find.lr is not None:
        axes.axvline(find.lr, color=QUIET_COLOUR, linewidth=0.8, linestyle=":")
    what = find.reason or f"taken for auto: {find.lr:.2g}"
    axes.set(
        title=f"Rate finder before {find.stage}\n{what}", xlabel="learning rate", ylabel="loss"
    )
    axes.title.set_fontsize(11)
    axes.set_xscale("log")
    if means:
        # Where the loss runs away it would flatten all that can be read.
        axes.set_ylim(0, 1.1 * max(means[0], 2 * min(means)))
    axes.legend(frameon=False, fontsize=9)
    return _png(figure)


def draw_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> bytes:
    """Draw the valid split's confusion matrix; shades are shares of a row, numbers are images."""
    counts = np.asarray(confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.55 * len(names), 4, 13))
    figure, (axes,) = _figure(1, 1, width=side + 0.6, height=side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title="Confusion, valid images", xlabel="predicted", ylabel="label")
    axes.spines[:].set_visible(False)
    short = [name if len(name) <= 22 else f"{name[:21]}…" for name in names]
    axes.set_xticks(
        range(len(names)), short, rotation=45, ha="right", rotation_mode="anchor", **AS_WRITTEN
    )
    axes.set_yticks(range(len(names)), short, **AS_WRITTEN)
    if len(names) > MOST_CELLS:
        axes.tick_params(labelsize=4)
    else:
        _write_cells(axes, counts, shares)
    figure.colorbar(image, ax=axes, label="share of the label's images", shrink=0.8)
    return _png(figure)


def draw_top_losses(
    rows: Sequence[ReportRow],
    pictures: Sequence[NDArray[np.uint8]],
    classes: Sequence[ClassEntry],
) -> bytes:
    """Draw up to nine images as the lesson's `plot_top_losses`: prediction, label, loss, p(label).

    `pictures` are uint8 [height, width, 3], one for each row.
    """
    names = {entry.id: entry.name for entry in classes}
    shown = list(zip(rows, pictures, strict=True))[:TOP_LOSSES]
    figure, axes = _figure(3, 3, width=9, height=10)
    figure.suptitle("Top losses: prediction / label / loss / probability of the label")
    for place in axes:
        place.set_axis_off()
    for place, (row, picture) in zip(axes, shown, strict=False):
        place.imshow(picture, interpolation="nearest")
        place.set_title(_caption(row, names), fontsize=9, **AS_WRITTEN)
    return _png(figure)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the running exponential mean, corrected for its start."""
    means: list[float] = []
    mean = 0.0
    # A twentieth of the run is averaged, at most 50 steps.
    keep = min(SMOOTHING, max(0.5, 1 - 20 / max(1, len(values))))
    for count, value in enumerate(values, start=1):
        mean = keep * mean + (1 - keep) * value
        means.append(mean / (1 - keep**count))
    return means


def _draw_errors(errors: "Axes", curves: Curves, measured: Sequence[MeasuredEpoch]) -> None:
    rates = [100 * point.error_rate for point in measured]
    known = [(point.epoch, point.error) for point in curves.epochs if point.error is not None]
    _shade_intervals(errors, [(epoch, 100 * error.low, 100 * error.high) for epoch, error in known])
    _plot_valid(errors, [point.epoch for point in measured], rates)
    errors.set(title="Valid error, with its 95 % interval", xlabel="epoch", ylabel="% wrong")
    errors.set_ylim(bottom=0)
    errors.set_xlim(0.5, measured[-1].epoch + 0.5)
    _count(errors)
    _mark_stages(errors, [(point.stage, point.epoch + 0.5) for point in curves.epochs], begin=0.5)


def _mark_steps(axes: "Axes", curves: Curves) -> None:
    _count(axes)
    # Curves of long ago do not know where their epochs ended.
    ends = [(point.stage, point.step) for point in curves.epochs if point.step is not None]
    _mark_stages(axes, ends, begin=0.5)


def _mark_stages(axes: "Axes", ends: Iterable[tuple[str, float]], *, begin: float) -> None:
    """Tell several stages from each other, by the places where their epochs end."""
    stages = [(stage, [*found][-1][1]) for stage, found in groupby(ends, key=itemgetter(0))]
    if len(stages) < 2:
        return
    names, length = {}, stages[-1][1] - begin
    for stage, end in stages:
        if len(stage) <= LETTERS * (end - begin) / length:
            names[(begin + end) / 2] = stage
        if end < stages[-1][1]:
            axes.axvline(end, color=QUIET_COLOUR, linewidth=0.8, linestyle=":")
        begin = end
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(names), list(names.values()), fontsize=8, color=QUIET_COLOUR)
    above.tick_params(length=0)
    above.spines["top"].set_visible(False)


def _count(axes: "Axes") -> None:
    """Let an axis that counts have whole numbers, be there one or thousands."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def _plot_valid(axes: "Axes", places: Sequence[float], values: Sequence[float]) -> None:
    axes.plot(places, values, "o-", color=VALID_COLOUR, linewidth=1.8, markersize=5, label="valid")


def _shade_intervals(axes: "Axes", known: Iterable[tuple[float, float, float]]) -> None:
    """Shade what lies between the ends of each (place, low, high)."""
    places, low, high = np.asarray([*known], dtype=np.float64).reshape(-1, 3).T
    # Bars: of a single epoch a band would show nothing.
    axes.fill_between(places, low, high, color=VALID_COLOUR, alpha=0.15, linewidth=0)
    axes.vlines(places, low, high, color=VALID_COLOUR, alpha=0.5, linewidth=1.2)


def _write_cells(axes: "Axes", counts: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
    for (label, predicted), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[label, predicted] > 0.55 else "#223"
            axes.text(
                predicted,
                label,
                f"{count:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=10 if len(counts) <= 15 else 7,
            )


def _caption(row: ReportRow, names: Mapping[int, str]) -> str:
    predicted = names[row.predicted]
    if row.label is None or row.loss is None or row.p_label is None:
        return f"{predicted}\nno label: claims contradict"
    return f"{predicted} / {names[row.label]}\n{row.loss:.2f} / {row.p_label:.2f}"


def _figure(rows: int, columns: int, *, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    # Without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()
