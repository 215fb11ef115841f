"""What a finished run shows in MLflow, and what is left of one that its input ends."""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from bearloop.contract.report import Summary
from bearloop.contract.runs import Cost, Curves
from bearloop.curves_file import save_curves
from trainer.cache import EvaluationPixels
from trainer.export import Exported
from trainer.label_issues import CONFLICT
from trainer.page import write_note, write_tables
from trainer.plots import TOP_LOSSES, draw_curves, draw_plots
from trainer.report import Order, Predictions, ranking, row
from trainer.run import Run
from trainer.tracking import Outcome


def finish_tracking(
    run: Run,
    *,
    curves: Curves,
    predictions: Predictions,
    summary: Summary,
    report_keys: Mapping[Order, str],
    bundle: Exported,
    seconds: Mapping[str, float],
    cost: Cost,
) -> str | None:
    """Log what the run made and return the model's artifact path; None where it is not tracked.

    Raises TrackingError.
    """
    if not run.tracker.tracks:
        return None
    store = run.mailbox.store
    plots = plots_of(predictions, summary, curves=curves, pixels=run.evaluation)
    return run.tracker.finish(
        Outcome(
            summary=summary,
            onnx=bundle.onnx,
            bundle_digest=bundle.digest,
            seconds=seconds,
            cost=cost,
            note=write_note(
                run.spec, page=run.tracker.page, summary=summary, curves=curves, plots=plots
            ),
            plots=plots,
            tables=write_tables(run.spec, summary=summary, curves=curves),
            reports={PurePosixPath(key).name: store.get(key) for key in report_keys.values()},
        )
    )


def leave_curves(run: Run, curves: Curves) -> None:
    """Keep how far a run came: nobody could see what went wrong otherwise."""
    if run.ranks.leads:
        save_curves(run.mailbox.store, run.mailbox.prefix, curves)
        if run.tracker.tracks:
            run.tracker.give_up(draw_curves(curves))


def plots_of(
    predictions: Predictions, summary: Summary, *, curves: Curves, pixels: EvaluationPixels
) -> Mapping[str, bytes]:
    """Draw the run's plots; the sheet shows the valid images with the highest losses.

    Where nothing was held out it shows the highest of all.
    """
    order = ranking(predictions, "loss")
    shown = predictions.labels != CONFLICT
    if predictions.train_on == "train":
        shown &= np.array([item.split == "valid" for item in predictions.items])
    places = order[shown[order]][:TOP_LOSSES]
    return draw_plots(
        curves=curves,
        classes=predictions.classes,
        valid=summary.splits.get("valid"),
        top=[row(predictions, int(place), rank) for rank, place in enumerate(places)],
        pictures=list(pixels.gather(places)),
    )
