"""A promotion moves as the table says, and a rollback knows where back is."""

from itertools import product

import pytest

from api.promotion.states import (
    MOVES,
    IllegalMoveError,
    PromotionState,
    Served,
    move,
    promotion_to_restore,
)

ALLOWED = {
    ("checking", "rolling_out"),
    ("checking", "refused"),
    ("checking", "failed"),
    ("rolling_out", "live"),
    ("rolling_out", "failed"),
    ("live", "replaced"),
}


@pytest.mark.parametrize(("here", "to"), list(product(PromotionState, PromotionState)))
def test_only_the_moves_of_the_table_are_made(here: PromotionState, to: PromotionState) -> None:
    if (here, to) in ALLOWED:
        assert move(here, to) is to
    else:
        with pytest.raises(IllegalMoveError, match=f"from {here} to {to}"):
            move(here, to)


def test_every_state_has_its_row() -> None:
    assert set(MOVES) == set(PromotionState)


@pytest.mark.parametrize(
    ("served", "restored"),
    [
        ([], None),
        ([(1, False)], None),
        ([(1, False), (2, False)], 1),
        ([(2, False), (5, False), (3, False)], 3),
        # 3 took 2 back: 1 answers again, and nothing was before it.
        ([(1, False), (2, False), (3, True)], None),
        ([(1, False), (2, False), (3, False), (4, True)], 1),
        ([(1, False), (2, False), (3, True), (4, False)], 1),
        ([(1, False), (2, False), (3, False), (4, True), (5, False), (6, True)], 1),
    ],
)
def test_a_rollback_goes_to_what_was_live_before(
    served: list[tuple[int, bool]], restored: int | None
) -> None:
    assert promotion_to_restore(Served(*entry) for entry in served) == restored
