"""Early stopping: which epoch of a stage was best, and whether waiting for a better one is over.

Both are read off the epochs so far, so that a resumed run decides what the uninterrupted one would.
Where the rate restarts only ends of cycles count: behind a restart a stage gets worse first.
"""

from collections.abc import Sequence

from bearloop.contract.recipes import CosineRestarts, FitStage
from bearloop.contract.runs import Curves, EpochPoint


def best_epoch(epochs: Sequence[EpochPoint], stage: FitStage) -> EpochPoint | None:
    """Return the stage's epoch with the lowest metric, of equal ones the first.

    None where the stage does not stop early, or has no epoch yet that counts.
    """
    counted = _counted(epochs, stage)
    if stage.early_stopping is None or not counted:
        return None
    return min(counted, key=lambda point: _metric(point, stage))


def is_over(epochs: Sequence[EpochPoint], stage: FitStage) -> bool:
    """Tell whether so many epochs as the stage's patience brought nothing better."""
    best, stopping = best_epoch(epochs, stage), stage.early_stopping
    if best is None or stopping is None or epochs[-1] not in _counted(epochs, stage):
        return False
    return epochs[-1].epoch - best.epoch >= stopping.patience


def why(epochs: Sequence[EpochPoint], stage: FitStage) -> str:
    """Say which epoch's weights a stage ends with."""
    best, stopping = best_epoch(epochs, stage), stage.early_stopping
    assert best is not None
    assert stopping is not None
    metric = stopping.metric.replace("_", " ")
    stopped = "stopped" if is_over(epochs, stage) else "ended"
    return (
        f"stage {stage.name!r} {stopped} after epoch {epochs[-1].epoch} and keeps the weights of "
        f"epoch {best.epoch}, whose {metric} of {_metric(best, stage):.4g} is its best"
    )


def as_kept(stage: FitStage, curves: Curves) -> FitStage:
    """Return the stage with as many epochs as the weights that a run kept had seen.

    Who trains the same steps without valid images, to judge labels, cannot know when to stop.
    """
    if stage.name not in curves.kept:
        return stage
    first = _of(curves.epochs, stage)[0].epoch
    return stage.model_copy(update={"epochs": curves.kept[stage.name] - first + 1})


def _of(epochs: Sequence[EpochPoint], stage: FitStage) -> list[EpochPoint]:
    return [point for point in epochs if point.stage == stage.name]


def _counted(epochs: Sequence[EpochPoint], stage: FitStage) -> list[EpochPoint]:
    own = _of(epochs, stage)
    if not isinstance(stage.schedule, CosineRestarts):
        return own
    return [own[end - 1] for end in stage.schedule.ends(len(own))]


def _metric(point: EpochPoint, stage: FitStage) -> float:
    assert stage.early_stopping is not None
    by_loss = stage.early_stopping.metric == "valid_loss"
    found = point.valid_loss if by_loss else point.error_rate
    # A recipe that stops early holds images out.
    assert found is not None
    return found
