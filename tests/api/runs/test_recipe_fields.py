"""What a job would end at is refused before: a recipe's name stands for its steps for ever."""

import pytest
from fastapi.testclient import TestClient

from api.runs.named_recipes import FROM_SCRATCH, PRECOMPUTE
from api.runs.recipe_faults import faults
from api.runs.recipes import Changes, changed
from bearloop.contract.recipes import FitStage
from tests.api.runs.conftest import RECIPES


def body() -> dict[str, object]:
    return PRECOMPUTE.model_copy(update={"name": "mine"}).model_dump(mode="json")


@pytest.mark.parametrize("name", ["a/b", "../up", "", "x" * 64, " blank", "tab\t"])
def test_a_stage_is_named_by_what_may_name_a_file(client: TestClient, name: str) -> None:
    wrong = body()
    wrong["stages"][2]["name"] = name  # type: ignore[index]
    answer = client.post(RECIPES, json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
    assert answer.json()["errors"][0]["field"] == "body.stages.2.name"


@pytest.mark.parametrize("name", ["features", "lr-find head"])
def test_a_fit_stage_takes_no_name_from_what_a_run_cost_beside_it(
    client: TestClient, name: str
) -> None:
    wrong = body()
    wrong["stages"][2]["name"] = name  # type: ignore[index]
    problem = client.post(RECIPES, json=wrong).json()
    assert (problem["code"], problem["field"]) == ("wrong_recipe", "recipe.stages.2.name")
    assert problem["value"] == name
    wrong["stages"][2]["name"] = f"my {name}"  # type: ignore[index]
    assert client.post(RECIPES, json=wrong).status_code == 201


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stages.2.frozen_to", 3),
        ("stages.2.frozen_to", -4),
        ("preprocess.std.0", 0),
        ("augment.max_zoom", 1e9),
    ],
)
def test_a_number_that_no_model_can_follow_is_refused(
    client: TestClient, field: str, value: float
) -> None:
    wrong: object = body()
    inside = wrong
    *path, last = field.split(".")
    for part in path:
        inside = inside[int(part) if part.isdigit() else part]  # type: ignore[index]
    inside[int(last) if last.isdigit() else last] = value  # type: ignore[index]
    answer = client.post(RECIPES, json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
    assert answer.json()["errors"][0]["field"] == f"body.{field}"


@pytest.mark.parametrize("weights", ["foo", "file:///weights/resnet18.zip"])
def test_weights_of_no_kind_are_refused(client: TestClient, weights: str) -> None:
    answer = client.post(RECIPES, json={**body(), "weights": weights})
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_recipe")
    assert answer.json()["field"] == "recipe.weights"
    assert answer.json()["value"] == weights


def test_the_head_alone_may_be_named_from_either_end() -> None:
    stages = [
        stage.model_copy(update={"frozen_to": 2}) if isinstance(stage, FitStage) else stage
        for stage in PRECOMPUTE.stages
    ]
    recipe = PRECOMPUTE.model_copy(update={"stages": tuple(stages)})
    assert not faults(recipe)
    assert recipe.feeding(recipe.fits()[0][1]) is not None


def test_a_recipes_own_size_changes_nothing() -> None:
    assert changed(FROM_SCRATCH, Changes(size=64)) == FROM_SCRATCH
