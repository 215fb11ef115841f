"""The pure rules: when to stop, and what a decision comes to when a review closes."""

import pytest

from api.label_state import LabelState
from api.review.settlement import Outcome, Said, event_of, settle
from api.review.stopping import ScreenTally, advise

RIGHT = ScreenTally(5, 0, 0)
WRONG = ScreenTally(5, 2, 0)
UNSURE = ScreenTally(5, 0, 1)


class TestStopping:
    def test_a_couple_of_screens_that_all_look_right_is_enough(self) -> None:
        found = advise([RIGHT, RIGHT, WRONG], left=40)
        assert (found.stop, found.right_screens) == (True, 2)
        assert found.wrong_share is not None
        assert (found.wrong_share.value, found.wrong_share.n) == (0, 10)
        assert 0.2 < found.wrong_share.high < 0.3
        assert "40 images need not be looked at" in found.says

    @pytest.mark.parametrize(
        ("screens", "says"),
        [
            ([], "nothing is decided yet"),
            ([RIGHT], "one more like it"),
            ([RIGHT, WRONG, RIGHT], "one more like it"),
            ([WRONG, RIGHT, RIGHT], "2 of 5 that are not right"),
            ([UNSURE, RIGHT], "1 of 5 that are not right"),
        ],
    )
    def test_less_is_not(self, screens: list[ScreenTally], says: str) -> None:
        found = advise(screens, left=40)
        assert not found.stop
        assert says in found.says

    def test_when_nothing_is_left_it_is_over(self) -> None:
        assert advise([WRONG], left=0).stop


BLACK, TEDDY = 1, 3
LABELLED = LabelState("labelled", BLACK)


class TestSettlement:
    @pytest.mark.parametrize(
        ("said", "now", "outcome"),
        [
            (Said("keep", None, BLACK), LABELLED, Outcome.write),
            (Said("relabel", TEDDY, BLACK), LABELLED, Outcome.write),
            (Said("remove", None, BLACK), LABELLED, Outcome.write),
            (Said("unsure", None, BLACK), LABELLED, Outcome.nothing),
            (Said("relabel", TEDDY, None), LabelState("conflict", None), Outcome.write),
            (Said("relabel", TEDDY, None), LABELLED, Outcome.changed),
            (Said("relabel", TEDDY, BLACK), LabelState("labelled", TEDDY), Outcome.stands),
            (Said("relabel", TEDDY, BLACK), LabelState("labelled", 2), Outcome.changed),
            (Said("relabel", TEDDY, BLACK), LabelState("labelled", BLACK, True), Outcome.changed),
            (Said("keep", None, BLACK), LabelState("labelled", TEDDY), Outcome.changed),
            (Said("keep", None, BLACK), LabelState("conflict", None), Outcome.changed),
            (Said("remove", None, BLACK), LabelState("labelled", BLACK, True), Outcome.stands),
            (Said("remove", None, BLACK), LabelState("labelled", TEDDY), Outcome.changed),
        ],
    )
    def test_a_decision_is_guarded_by_the_label_that_was_seen(
        self, said: Said, now: LabelState, outcome: Outcome
    ) -> None:
        assert settle(said, now) is outcome

    def test_each_verb_has_its_event(self) -> None:
        assert event_of(Said("keep", None, BLACK)) == ("label", BLACK)
        assert event_of(Said("relabel", TEDDY, BLACK)) == ("label", TEDDY)
        assert event_of(Said("remove", None, BLACK)) == ("remove", None)
