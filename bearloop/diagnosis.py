"""The lesson's four failures, named from a run's curves, each with its evidence and its way out.

A training loss below the valid loss is no sign of overfitting, and nothing here says so: what tells
is an error or a valid loss that rises again while the training loss goes on falling.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, log, sqrt
from typing import Final, Literal, NamedTuple

from bearloop.contract.record import Record
from bearloop.contract.report import Metric
from bearloop.contract.runs import Curves, MeasuredEpoch, measured_epochs
from bearloop.intervals import Z_95

EXPLODED: Final = 5.0
"""Times the loss of guessing: nobody is so wrong who ever learnt, only who was thrown far off."""
RAN_AWAY: Final = 2.0
"""Times where the training loss began: an epoch's mean above it was no learning."""
CREEPS: Final = 0.25
"""Share of its start that the training loss falls by at least where a rate is of the right size."""
FAR_FROM_DONE: Final = 0.5
"""Share of guessing's loss above which a valid loss is."""
STILL_FALLING: Final = 0.1
"""Share of the valid loss that an epoch takes off it where more of them would go on."""
RISEN: Final = 0.1
"""Share by which the valid loss is above its lowest."""
SOARED: Final = 0.3
"""A share that no error excuses which fell by chance at most."""
FEW_EPOCHS: Final = 3
"""Fewer tell a rate that is too low from no other thing, and bend no curve."""
UNTOLD: Final = 0.05
"""Half width of the error's interval above which it tells little; of a high error half of it, up to
twice this."""
BEGINNING: Final = 10
"""Steps, at most, whose mean is where the loss began; of a short run a quarter."""

Code = Literal[
    "lr_too_high", "lr_too_low", "too_few_epochs", "too_many_epochs", "valid_split_too_small"
]


class Finding(Record):
    """One thing that went wrong."""

    code: Code
    evidence: str
    """The figures that say so."""
    way_out: str
    epochs: int | None = None
    """Proposed for the last fit stage, where the number was wrong."""


class _Course(NamedTuple):
    """How the losses went."""

    curves: Curves
    epochs: list[MeasuredEpoch]
    guessing: float
    """Loss of a model that knows nothing."""
    began: float
    """Training loss at the start."""
    ended: float
    """Training loss of the last epoch."""

    @property
    def last(self) -> MeasuredEpoch:
        return self.epochs[-1]

    @property
    def fell(self) -> float:
        """Share of its start that the training loss lost."""
        return _fall(self.began, self.ended)

    @property
    def rate(self) -> float:
        """Highest rate of the run."""
        return max(step.lr for step in self.curves.steps)


def diagnose(curves: Curves, *, classes: int, error: Metric) -> tuple[Finding, ...]:
    """Name what went wrong in a run; nothing, where nothing did.

    `error` is that of the valid images by the model that the run ended with.
    """
    epochs = _lasting(curves)
    if not epochs or not curves.steps:
        return ()
    small = too_small(error)
    course = _of_course(_course(curves, epochs, classes), error)
    return (*course, *(() if small is None else (small,)))


def too_small(error: Metric) -> Finding | None:
    """Say that the valid split is too small for its error to tell much, and how many would do."""
    half, allowed = (error.high - error.low) / 2, max(UNTOLD, min(error.value / 2, 2 * UNTOLD))
    if half <= allowed:
        return None
    share = min(max(error.value, UNTOLD), 0.5)
    needed = ceil(Z_95**2 * share * (1 - share) / allowed**2)
    return Finding(
        code="valid_split_too_small",
        evidence=f"of {error.n} valid images {error.value:.1%} are wrong, which may be anything "
        f"from {error.low:.1%} to {error.high:.1%}",
        way_out=f"bring in images until some {needed} are valid, and compare runs over several "
        "seeds until then",
    )


def _lasting(curves: Curves) -> list[MeasuredEpoch]:
    """Leave out the epochs that a stage only waited in, and whose weights it threw away."""
    kept = curves.kept
    return [
        point
        for point in measured_epochs(curves)
        if point.epoch <= kept.get(point.stage, point.epoch)
    ]


def _course(curves: Curves, epochs: list[MeasuredEpoch], classes: int) -> _Course:
    first = [step.loss for step in curves.steps[:BEGINNING]]
    first = first[: max(1, len(curves.steps) // 4)]
    return _Course(
        curves=curves,
        epochs=epochs,
        guessing=log(max(2, classes)),
        began=sum(first) / len(first),
        ended=epochs[-1].train_loss,
    )


def _of_course(course: _Course, error: Metric) -> Iterator[Finding]:
    """Yield the one thing that is wrong with rate or epochs: the graver hides the others."""
    found = _too_high(course) or _too_low(course) or _too_many(course, error) or _too_few(course)
    if found is not None:
        yield found


def _too_high(course: _Course) -> Finding | None:
    """Losses that explode, in a run that never came back from it."""
    highest = max(point.valid_loss for point in course.epochs)
    trained = max(point.train_loss for point in course.epochs)
    thrown = highest > EXPLODED * course.guessing or trained > RAN_AWAY * course.began
    came_back = course.last.valid_loss < course.guessing and course.fell >= CREEPS
    if not thrown or came_back:
        return None
    return Finding(
        code="lr_too_high",
        evidence=f"the valid loss rose to {highest:.4g}, where guessing has {course.guessing:.2f}, "
        f"and the training loss went from {course.began:.3g} to {course.ended:.3g} "
        f"at a rate of {course.rate:.2g}",
        way_out=_other_rate(course, "a tenth of the rate or less", times=0.1),
    )


def _too_low(course: _Course) -> Finding | None:
    """A loss that creeps, after epochs enough to tell."""
    if len(course.epochs) < FEW_EPOCHS or course.fell >= CREEPS:
        return None
    if course.last.valid_loss < FAR_FROM_DONE * course.guessing:
        return None
    return Finding(
        code="lr_too_low",
        evidence=f"in {len(course.epochs)} epochs the training loss fell from "
        f"{course.began:.3g} to {course.ended:.3g} only, and the valid loss is "
        f"{course.last.valid_loss:.3g}, where guessing has {course.guessing:.2f}, "
        f"at a rate of {course.rate:.2g}",
        way_out=_other_rate(course, "ten times the rate, then a hundred times", times=10)
        + "; where no rate helps, look at the labels",
    )


def _too_many(course: _Course, error: Metric) -> Finding | None:
    """A valid loss or an error that rose again while the training loss went on falling."""
    last = course.last
    stage = [point for point in course.epochs if point.stage == last.stage]
    for best, rose in (
        (min(stage, key=lambda point: point.valid_loss), _loss_rose),
        (min(stage, key=lambda point: point.error_rate), _error_rose),
    ):
        since = last.epoch - best.epoch
        epochs = best.epoch - stage[0].epoch + 1
        # The lowest, not the last: at a flat rate the loss of any one epoch may bounce.
        lowest = min(point.train_loss for point in stage if point.epoch >= best.epoch)
        if since >= FEW_EPOCHS and lowest < best.train_loss and rose(best, last, error):
            return Finding(
                code="too_many_epochs",
                evidence=f"since epoch {best.epoch} the valid loss went from {best.valid_loss:.3g} "
                f"to {last.valid_loss:.3g} and the error from {best.error_rate:.1%} to "
                f"{last.error_rate:.1%}, while the training loss fell from {best.train_loss:.3g} "
                f"to {lowest:.3g}",
                way_out=f"train the stage {last.stage!r} for about {epochs} "
                f"epoch{'s' * (epochs > 1)}, or augment more, or add images",
                epochs=epochs,
            )
    return None


def _loss_rose(best: MeasuredEpoch, last: MeasuredEpoch, error: Metric) -> bool:
    # As long as the error falls, a model that is surer of its mistakes is still the better one.
    fell = best.error_rate - last.error_rate
    risen, soared = (last.valid_loss > (1 + share) * best.valid_loss for share in (RISEN, SOARED))
    return (risen and fell <= 0) or (soared and fell <= _chance(last, error))


def _error_rose(best: MeasuredEpoch, last: MeasuredEpoch, error: Metric) -> bool:
    # The best of many epochs is lucky: it takes more than chance.
    return last.error_rate > best.error_rate + _chance(last, error)


def _chance(last: MeasuredEpoch, error: Metric) -> float:
    """Return two standard errors of an epoch's error."""
    return 2 * sqrt(last.error_rate * (1 - last.error_rate) / error.n)


def _too_few(course: _Course) -> Finding | None:
    """A valid loss that was still falling, and below the training loss or far from done."""
    last, epochs = course.last, course.epochs
    if _waited_for_more(course.curves, last.stage):
        return None
    if last.train_loss <= last.valid_loss < FAR_FROM_DONE * course.guessing:
        return None
    falls = [_fall(before.valid_loss, after.valid_loss) for before, after in pairwise(epochs)][-2:]
    if any(fall < STILL_FALLING for fall in falls):
        return None
    if len(epochs) > 1 and last.error_rate >= epochs[-2].error_rate:
        return None
    more = max(FEW_EPOCHS, 2 * sum(point.stage == last.stage for point in epochs))
    said = f"and still fell by {falls[-1]:.0%} in the last epoch" if falls else "after one epoch"
    return Finding(
        code="too_few_epochs",
        evidence=f"the training loss is {last.train_loss:.3g}, the valid loss "
        f"{last.valid_loss:.3g} {said}",
        way_out=f"train the stage {last.stage!r} for {more} epochs; where that takes for ever, "
        "raise the rate",
        epochs=more,
    )


def _waited_for_more(curves: Curves, stage: str) -> bool:
    """Tell whether a stage that stops early trained on behind the weights that it kept."""
    trained = [point.epoch for point in curves.epochs if point.stage == stage]
    return max(trained) > curves.kept.get(stage, max(trained))


def _fall(before: float, after: float) -> float:
    """Return the share that a loss lost; from nothing it cannot fall."""
    return 1 - after / before if before else 0.0


def _other_rate(course: _Course, words: str, *, times: float) -> str:
    """Say which rate to try: the one that an lr-find of the run suggests, where there is one."""
    found = [find.lr for find in course.curves.lr_finds if find.lr is not None]
    better = [rate for rate in found if (rate < course.rate) == (times < 1)]
    if better:
        return f"take {better[-1]:.2g}, which the run's lr-find suggests"
    return f"try {words} ({times * course.rate:.2g}), or let an lr-find say: lr auto"
