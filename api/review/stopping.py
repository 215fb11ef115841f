"""When a review may stop: the lesson's "a couple of screens that all look right"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bearloop.contract.report import Metric
from bearloop.intervals import wilson

COUPLE: Final = 2
"""Screens in a row, all right, after which the lesson stops."""


class ScreenTally(NamedTuple):
    """What the reviewers said of one screen's images."""

    decided: int
    wrong: int
    """Relabelled or removed."""
    unsure: int

    @property
    def all_right(self) -> bool:
        """Say whether every image was kept; one that nobody is sure of is not right."""
        return self.wrong == 0 and self.unsure == 0


@dataclass(frozen=True)
class Advice:
    """Whether to go on, and what that rests on."""

    stop: bool
    right_screens: int
    """Screens in a row, from the deepest one, that all look right."""
    wrong_share: Metric | None
    """Of the images on these screens, or on the last two when not all are right."""
    says: str


def advise(screens: Sequence[ScreenTally], *, left: int) -> Advice:
    """Judge by the screens deepest in the queue, given from deepest to shallowest.

    The queue is sorted by doubt, so what comes after them is expected to hold fewer wrong labels.
    """
    right = _right_in_a_row(screens)
    share = _wrong_share(screens[: max(right, COUPLE)])
    if left == 0:
        return Advice(True, right, share, "every image is decided: close the review")
    if right < COUPLE:
        return Advice(False, right, share, _go_on(screens))
    assert share is not None  # there are two screens at least
    says = (
        f"the last {right} screens all look right: at most {share.high:.0%} of images like these "
        f"are wrong (95 %), and what is left is doubted less; {left} images need not be looked at"
    )
    return Advice(True, right, share, says)


def _right_in_a_row(screens: Sequence[ScreenTally]) -> int:
    for count, screen in enumerate(screens):
        if not screen.all_right:
            return count
    return len(screens)


def _wrong_share(screens: Sequence[ScreenTally]) -> Metric | None:
    decided = sum(screen.decided for screen in screens)
    return wilson(sum(screen.wrong for screen in screens), decided) if decided else None


def _go_on(screens: Sequence[ScreenTally]) -> str:
    if not screens:
        return "nothing is decided yet"
    found = screens[0].wrong + screens[0].unsure
    if found:
        return f"the last screen held {found} of {screens[0].decided} that are not right: go on"
    return "the last screen looks right: one more like it, and you may stop"
