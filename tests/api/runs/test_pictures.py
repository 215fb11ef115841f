"""How pictures are changed and made square: settable for a run, each wrong field named."""

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from api.runs.named_recipes import FINE_TUNE
from api.runs.recipe_faults import BrokenRecipeError
from api.runs.recipes import Changes, changed
from bearloop.contract.recipes import (
    NO_AUGMENT,
    PRESETS,
    TOP_DOWN,
    Augment,
    EvaluateStage,
    Recipe,
)
from bearloop.transforms import moves, relights
from tests.api.runs.conftest import RECIPES, RUNS, Zoo, start


def asked(**fields: object) -> Changes:
    return Changes.model_validate(fields)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_taken_by_its_name(name: str) -> None:
    assert changed(FINE_TUNE, asked(augment=name)).augment == PRESETS[name]
    flat = FINE_TUNE.model_copy(update={"augment": TOP_DOWN})
    assert changed(flat, asked(augment=name)).augment == PRESETS[name]


def test_top_down_flips_and_turns_and_does_not_warp() -> None:
    assert (TOP_DOWN.flip, TOP_DOWN.vertical_flip, TOP_DOWN.quarter_turns) == (True, True, True)
    assert TOP_DOWN.max_warp == 0


def test_single_fields_change_the_recipes_own_augmentation() -> None:
    flat = FINE_TUNE.model_copy(update={"augment": TOP_DOWN})
    found = changed(flat, asked(augment={"max_rotate": 30, "padding": "border"})).augment
    assert found == TOP_DOWN.model_copy(update={"max_rotate": 30.0, "padding": "border"})


def test_a_single_field_changes_something_over_none_too() -> None:
    plain = FINE_TUNE.model_copy(update={"augment": NO_AUGMENT})
    assert not moves(changed(plain, asked()).augment)
    assert moves(changed(plain, asked(augment={"max_rotate": 20})).augment)
    assert relights(changed(plain, asked(augment={"max_lighting": 0.2})).augment)


def test_a_recipe_names_a_preset_too() -> None:
    body = {**FINE_TUNE.model_dump(mode="json"), "augment": "none"}
    assert Recipe.model_validate(body).augment == NO_AUGMENT


def test_what_is_not_used_leaves_older_digests_as_they_were() -> None:
    assert not {"quarter_turns", "padding"} & Augment().model_dump().keys()
    again = Augment.model_validate_json(TOP_DOWN.canonical())
    assert again == TOP_DOWN


def test_resize_and_test_time_augmentation_are_changed_alone() -> None:
    found = changed(FINE_TUNE, asked(resize="squish", size=96, tta_views=8, tta_plain_weight=0.5))
    assert (found.preprocess.resize, found.preprocess.size) == ("squish", 96)
    last = found.stages[-1]
    assert isinstance(last, EvaluateStage)
    assert (last.tta_views, last.tta_plain_weight, last.folds) == (8, 0.5, 5)
    assert changed(FINE_TUNE, asked(tta_views=4)) == FINE_TUNE


def test_a_zoom_between_no_ends_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"1\.3 is above max_zoom, 1\.1"):
        asked(augment={"min_zoom": 1.3})
    wide = FINE_TUNE.augment.model_copy(update={"min_zoom": 1.2, "max_zoom": 1.4})
    recipe = FINE_TUNE.model_copy(update={"augment": wide})
    with pytest.raises(BrokenRecipeError, match=r"1\.2 is above max_zoom, 1\.1") as caught:
        changed(recipe, asked(augment={"max_zoom": 1.1}))
    assert caught.value.field == "recipe.augment.min_zoom"
    assert caught.value.way_out == "give both, the smaller one first"


class TestOverRest:
    def test_a_run_takes_them_all(self, client: TestClient, zoo: Zoo) -> None:
        start(client, augment="top-down", resize="pad", tta_views=2, tta_plain_weight=0.4)
        start(client, augment={"max_rotate": 180, "quarter_turns": True}, resize="squish")

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"augment": "sideways"}, "body.augment"),
            ({"augment": {"max_rotate": 181}}, "body.augment.max_rotate"),
            ({"augment": {"max_lighting": 1}}, "body.augment.max_lighting"),
            ({"augment": {"p_affine": 2}}, "body.augment.p_affine"),
            ({"augment": {"padding": "wrap"}}, "body.augment.padding"),
            ({"augment": {"turns": True}}, "body.augment.turns"),
            ({"resize": "stretch"}, "body.resize"),
            ({"tta_views": 33}, "body.tta_views"),
            ({"tta_plain_weight": 1.5}, "body.tta_plain_weight"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, client: TestClient, zoo: Zoo, *, wrong: dict[str, object], field: str
    ) -> None:
        answer = client.post(RUNS, json={"dataset": "bears", **wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, field)

    def test_each_wrong_field_of_a_recipe_is_named(self, client: TestClient) -> None:
        body = FINE_TUNE.model_dump(mode="json")
        body |= {"name": "odd", "augment": {"max_warp": 2, "min_scale": 0}}
        answer = client.post(RECIPES, json=body)
        fields = {entry["field"] for entry in answer.json()["errors"]}
        assert fields == {"body.augment.max_warp", "body.augment.min_scale"}
