"""The states of a promotion, the moves between them, and what a rollback goes back to."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple


class PromotionState(StrEnum):
    """Where a promotion is in its life."""

    checking = "checking"
    """A candidate is asked, and the gates judge."""
    rolling_out = "rolling_out"
    """The endpoint goes over to the bundle; the one before still answers."""
    live = "live"
    """The endpoint answered with this bundle."""
    refused = "refused"
    """A gate did not pass."""
    failed = "failed"
    """The bundle did not come to answer in time."""
    replaced = "replaced"
    """It was live until another one was."""


MOVES: Final[dict[PromotionState, frozenset[PromotionState]]] = {
    PromotionState.checking: frozenset(
        {PromotionState.rolling_out, PromotionState.refused, PromotionState.failed}
    ),
    PromotionState.rolling_out: frozenset({PromotionState.live, PromotionState.failed}),
    PromotionState.live: frozenset({PromotionState.replaced}),
    PromotionState.refused: frozenset(),
    PromotionState.failed: frozenset(),
    PromotionState.replaced: frozenset(),
}
UNFINISHED: Final = (PromotionState.checking, PromotionState.rolling_out)
SERVED: Final = (PromotionState.live, PromotionState.replaced)
"""States of promotions that were live at some time."""


class IllegalMoveError(Exception):
    """A promotion was to go where its state does not lead: a mistake in the program."""


class Served(NamedTuple):
    """A promotion that was live at some time."""

    number: int
    is_rollback: bool


def move(state: str, to: PromotionState) -> PromotionState:
    """Return the new state; raises IllegalMoveError for a move that the table does not have."""
    if to not in MOVES[PromotionState(state)]:
        raise IllegalMoveError(f"a promotion cannot go from {state} to {to}")
    return to


def promotion_to_restore(served: Iterable[Served]) -> int | None:
    """Return the number of the promotion whose bundle was live before the one that is now.

    A rollback takes the newest standing promotion off the pile, so a second rollback goes one
    further back and never forth again to what was taken back.
    """
    pile: list[int] = []
    for promotion in sorted(served):
        if not promotion.is_rollback:
            pile.append(promotion.number)
        elif pile:
            pile.pop()
    return pile[-2] if len(pile) > 1 else None
