"""`lr` of a run: what follows the first stage's rate, and what is left to its search."""

import pytest

from api.runs.named_recipes import FINE_TUNE, PROGRESSIVE_RESIZE
from api.runs.recipe_faults import BrokenRecipeError, check_whole
from api.runs.recipes import Changes, changed
from bearloop.contract.recipes import (
    CacheStage,
    EvaluateStage,
    FitStage,
    LrFindStage,
    Recipe,
    Stage,
)

FIND = LrFindStage()
FROZEN = FitStage(name="frozen", epochs=4, lr=3e-3, frozen_to=-1)
FOUND = FitStage(name="found", epochs=2, lr="auto", lr_body_times=0.1)
TWICE = FitStage(name="twice", epochs=2, lr="auto", lr_times=2.0)
LAST = FitStage(name="last", epochs=2, lr=1e-4, lr_body=1e-5)


def recipe(*stages: Stage) -> Recipe:
    made = FINE_TUNE.model_copy(update={"stages": (CacheStage(), *stages, EvaluateStage())})
    check_whole(made)
    return made


def fits(recipe: Recipe) -> list[FitStage]:
    return [stage for stage in recipe.stages if isinstance(stage, FitStage)]


def test_fine_tune_with_lr_auto_searches_once_and_keeps_its_proportions() -> None:
    found = changed(FINE_TUNE, Changes(lr="auto"))
    check_whole(found)
    assert [stage.kind for stage in found.stages] == ["cache", "lr-find", "fit", "fit", "evaluate"]
    assert [stage.lr for stage in fits(found)] == ["auto", "auto"]
    assert [stage.at(2e-3) for stage in fits(found)] == fits(FINE_TUNE)
    assert changed(found, Changes(lr="auto")) == found
    with_number = changed(found, Changes(lr=2e-3))
    assert fits(with_number) == fits(FINE_TUNE)


def test_a_run_may_give_the_rate_that_the_others_follow() -> None:
    frozen, unfrozen = fits(changed(FINE_TUNE, Changes(lr=6e-3)))
    assert frozen.lr == pytest.approx(6e-3)
    assert (unfrozen.lr, unfrozen.lr_body) == pytest.approx((3e-3, 9e-5))
    with pytest.raises(BrokenRecipeError, match="cannot be changed so"):
        changed(FINE_TUNE, Changes(lr=1e-323))


def test_the_lesson_s_second_stage_stays_with_its_search_when_the_first_is_given_a_rate() -> None:
    lesson = recipe(FROZEN, FIND, FOUND)
    first, second = fits(changed(lesson, Changes(lr=1e-3)))
    assert (first.lr, second) == (1e-3, FOUND)
    searched = changed(lesson, Changes(lr="auto"))
    check_whole(searched)
    assert [stage.kind for stage in searched.stages[1:-1]] == ["lr-find", "fit"] * 2
    first, second = fits(searched)
    assert (first.lr, first.lr_times) == ("auto", None)
    assert second == FOUND


def test_a_number_behind_a_rate_that_is_found_has_no_proportion_to_it() -> None:
    mixed = recipe(FIND, FOUND, LAST)
    first, last = fits(changed(mixed, Changes(lr=1e-3)))
    assert (first.lr, first.lr_body) == pytest.approx((1e-3, 1e-4))
    assert last == LAST
    assert changed(mixed, Changes(lr="auto")) == mixed


def test_numbers_are_scaled_against_numbers_and_multiples_against_those_of_one_search() -> None:
    between = recipe(FROZEN, FIND, FOUND, LAST)
    first, found, last = fits(changed(between, Changes(lr=6e-3)))
    assert (first.lr, last.lr, last.lr_body) == pytest.approx((6e-3, 2e-4, 2e-5))
    assert found == FOUND
    one, two, own = FOUND, TWICE, FOUND.model_copy(update={"name": "own"})
    first, second, third = fits(changed(recipe(FIND, one, two, FIND, own), Changes(lr=1e-3)))
    assert (first.lr, first.lr_body, second.lr) == pytest.approx((1e-3, 1e-4, 2e-3))
    assert third == own


def test_what_a_search_stands_before_takes_its_rate_and_numbers_behind_it_follow() -> None:
    shown = recipe(FROZEN, FIND, LAST, LAST.model_copy(update={"name": "lower", "lr": 5e-5}))
    first, second, third = fits(changed(shown, Changes(lr="auto")))
    assert (first.lr, first.lr_times) == ("auto", None)
    assert (second.lr, second.lr_times, second.lr_body_times) == ("auto", None, pytest.approx(0.1))
    assert (third.lr, third.lr_times) == ("auto", pytest.approx(0.5))


def test_a_rate_that_nothing_finds_is_not_made_a_number_by_another_stage_s() -> None:
    lacking = FINE_TUNE.model_copy(
        update={"stages": (CacheStage(), FROZEN, FOUND, EvaluateStage())}
    )
    with pytest.raises(BrokenRecipeError, match="and none is there"):
        check_whole(changed(lacking, Changes(lr=1e-3)))


def test_a_search_before_the_first_stage_serves_all_sizes() -> None:
    searched = changed(PROGRESSIVE_RESIZE, Changes(lr="auto"))
    check_whole(searched)
    assert [stage.at(2e-3) for stage in fits(searched)] == fits(PROGRESSIVE_RESIZE)
