"""A wrong recipe is told all that is wrong with it at once: an entry for each field."""

import pytest
from fastapi.testclient import TestClient

from api.runs.named_recipes import FINE_TUNE, NAMED, PRECOMPUTE
from api.runs.recipe_faults import BrokenRecipeError, faults, stored_recipe
from api.runs.recipes import Changes, changed
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    CacheStage,
    EarlyStopping,
    FeaturesStage,
    Flat,
    LrFindStage,
    Recipe,
)
from tests.api.runs.conftest import RECIPES, RUNS, Zoo
from tests.api.runs.stages import AUTO, KEEPING, SMALL


def test_all_that_is_malformed_is_told_at_once(client: TestClient) -> None:
    body = FINE_TUNE.model_dump(mode="json")
    body |= {"name": "Bad Name", "batch_size": 1, "callbacks": []}
    body["stages"][1] |= {"epochs": 0, "schedule": {"kind": "triangle"}}
    body["stages"][2] |= {"epochs": 4, "schedule": {"kind": "cosine-restarts", "cycle_mult": 2}}
    problem = client.post(RECIPES, json=body).json()
    told = {entry["field"]: entry for entry in problem["errors"]}
    assert problem["code"] == "malformed"
    assert {
        "body.name",
        "body.batch_size",
        "body.callbacks",
        "body.stages.1.epochs",
        "body.stages.1.schedule",
        "body.stages.2.epochs",
    } == set(told)
    assert told["body.batch_size"]["way_out"] == "give 2 or more"
    assert told["body.batch_size"]["value"] == "1"
    assert told["body.callbacks"]["way_out"].startswith("leave this field out")
    assert "'cosine-restarts'" in told["body.stages.1.schedule"]["way_out"]
    assert told["body.stages.2.epochs"]["value"] == "4"
    assert "after 3 or 7" in told["body.stages.2.epochs"]["way_out"]
    assert all(entry["way_out"] and entry["detail"] for entry in told.values())


def test_a_field_is_named_as_it_was_posted(client: TestClient, zoo: Zoo) -> None:
    body = FINE_TUNE.model_dump(mode="json") | {"name": "mine"}
    body["stages"][1] |= {"schedule": {"kind": "cosine-restarts", "cycle_len": 0}}
    body["stages"][2] |= {"early_stopping": {"metric": "loss"}, "lr": -1}
    del body["stages"][2]["name"]
    body["stages"][3] |= {"tta_views": 99, "kind": "evaluate"}
    expected = {
        "stages.1.schedule.cycle_len",
        "stages.2.name",
        "stages.2.lr",
        "stages.2.early_stopping.patience",
        "stages.2.early_stopping.metric",
        "stages.3.tta_views",
    }
    problem = client.post(RECIPES, json=body).json()
    assert {entry["field"] for entry in problem["errors"]} == {f"body.{e}" for e in expected}
    # In full in a run, where it might have been a name.
    problem = client.post(RUNS, json={"dataset": "bears", "recipe": body}).json()
    below = {f"body.recipe.{field}" for field in expected}
    assert {entry["field"] for entry in problem["errors"]} == {"body.recipe", *below}
    del body["stages"][0], body["stages"][1:]
    with pytest.raises(BrokenRecipeError, match="another version") as refused:
        stored_recipe(body)
    assert refused.value.field == "recipe.stages.0.schedule.cycle_len"


def test_all_that_no_trainer_could_follow_is_told_at_once(client: TestClient) -> None:
    stages = (CacheStage(presize=100), AUTO, KEEPING, SMALL, FINE_TUNE.stages[-1])
    broken = FINE_TUNE.model_copy(update={"name": "broken", "stages": stages})
    answer = client.post(RECIPES, json=broken.model_dump(mode="json"))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "wrong_recipe")
    assert [(entry["field"], entry["value"]) for entry in problem["errors"]] == [
        ("recipe.stages.1.lr", "auto"),
        ("recipe.stages.0.presize", 100),
        ("recipe.stages.3.size", 64),
        ("recipe.stages.2.schedule.snapshots", True),
    ]
    assert all(entry["way_out"] and entry["detail"] for entry in problem["errors"])
    assert problem["field"] == "recipe.stages.1.lr"


def test_all_that_one_check_finds_is_told_at_once(client: TestClient) -> None:
    twin = AUTO.model_copy(update={"name": "second", "size": 100, "schedule": Flat()})
    stopping = twin.model_copy(update={"early_stopping": EarlyStopping(patience=1)})
    stages = (CacheStage(), AUTO, stopping, *FINE_TUNE.stages[2:])
    wrong = {"name": "broken", "stages": stages, "train_on": "all", "weights": "resnet.zip"}
    wrong["model"] = "vit_b_16"
    wrong["preprocess"] = Preprocess(size=230)
    wrong["pool"] = "concat"
    broken = FINE_TUNE.model_copy(update=wrong)
    answer = client.post(RECIPES, json=broken.model_dump(mode="json"))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "wrong_recipe")
    assert [entry["field"] for entry in problem["errors"]] == [
        "recipe.stages.1.lr",
        "recipe.stages.2.lr",
        "recipe.stages.2.early_stopping",
        "recipe.pool",
        "recipe.stages.2.size",
        "recipe.preprocess.size",
        "recipe.weights",
    ]


def test_what_could_have_no_effect_is_told() -> None:
    cache, _, head, last = PRECOMPUTE.stages
    again = {"name": "again", "lr": "auto", "lr_body_times": 0.1, "frozen_to": 2, "epochs": 6}
    stages = (
        cache,
        FeaturesStage(views=7),
        head.model_copy(update={"lr_body": 1e-4}),
        LrFindStage(),
        head.model_copy(update=again),
        # It trains the body, so that no view is of its epochs.
        head.model_copy(update={"name": "whole", "frozen_to": 0, "epochs": 9, "lr_body": 1e-5}),
        last,
    )
    first, second, views = faults(PRECOMPUTE.model_copy(update={"stages": stages}))
    assert (first.field, first.value) == ("recipe.stages.2.lr_body", 1e-4)
    assert "'head' trains the head alone" in str(first)
    assert first.way_out == "leave lr_body out, or give frozen_to 0 or 1"
    assert (second.field, second.value) == ("recipe.stages.4.lr_body_times", 0.1)
    assert (views.field, views.value) == ("recipe.stages.1.views", 7)
    assert views.way_out == "give views 6 or less, or a stage behind it epochs 7"
    enough = (cache, FeaturesStage(views=6), *stages[3:])
    (left,) = faults(PRECOMPUTE.model_copy(update={"stages": enough}))
    assert left.field == "recipe.stages.3.lr_body_times"


def test_a_run_of_fewer_epochs_than_views_is_told(client: TestClient, zoo: Zoo) -> None:
    stages = (PRECOMPUTE.stages[0], FeaturesStage(views=5), *PRECOMPUTE.stages[2:])
    views = PRECOMPUTE.model_copy(update={"name": "views", "stages": stages})
    assert client.post(RECIPES, json=views.model_dump(mode="json")).status_code == 201
    asked = {"dataset": "bears", "recipe": "views", "epochs": 4}
    problem = client.post(RUNS, json=asked).json()
    assert (problem["code"], problem["field"]) == ("wrong_recipe", "recipe.stages.1.views")
    assert problem["way_out"].startswith("give views 4 or less")
    assert client.post(RUNS, json={**asked, "epochs": 5}).status_code == 202


@pytest.mark.parametrize("recipe", NAMED.values(), ids=NAMED)
def test_no_named_recipe_is_at_fault_however_its_rate_is_found(recipe: Recipe) -> None:
    for changes in (Changes(), Changes(lr="auto"), Changes(lr=1e-3), Changes(epochs=1)):
        assert not faults(changed(recipe, changes))


def test_wrong_stages_hide_neither_model_nor_weights_nor_names(client: TestClient) -> None:
    twice = (FINE_TUNE.stages[1],) * 2
    wrong = {"name": "half", "stages": twice, "model": "resnet35", "weights": "x"}
    broken = FINE_TUNE.model_copy(update=wrong).model_dump(mode="json")
    problem = client.post(RECIPES, json=broken).json()
    fields = [entry["field"] for entry in problem["errors"]]
    assert fields == ["recipe.stages", "recipe.stages", "recipe.model", "recipe.weights"]


def test_all_fields_of_a_stage_that_do_not_go_together_are_told(client: TestClient) -> None:
    body = FINE_TUNE.model_dump(mode="json") | {"name": "clashing"}
    body["augment"] |= {"min_zoom": 1.3}
    body["stages"][1] |= {"lr": "auto", "lr_body": 1e-4, "early_stopping": {"patience": 2}}
    cycles = {"kind": "cosine-restarts", "cycle_mult": 2, "snapshots": True}
    body["stages"][2] |= {"lr_times": 2, "lr_body_times": 1, "schedule": cycles}
    body["stages"][2] |= {"early_stopping": {"patience": 2}}
    problem = client.post(RECIPES, json=body).json()
    told = {entry["field"]: entry for entry in problem["errors"]}
    first, second = "body.stages.1", "body.stages.2"
    assert set(told) == {
        "body.augment.min_zoom",
        f"{first}.lr_body",
        f"{first}.early_stopping",
        f"{second}.lr_times",
        f"{second}.lr_body_times",
        f"{second}.early_stopping",
        f"{second}.epochs",
    }
    assert told[f"{second}.epochs"]["detail"] == "4 end within a cycle"
    assert told[f"{second}.epochs"]["way_out"].endswith("end one after 3 or 7")


def test_all_that_a_run_changes_for_the_worse_is_told(client: TestClient, zoo: Zoo) -> None:
    stopping = {"early_stopping": {"patience": 2}}
    asked = {"dataset": "bears", "recipe": "warm-restarts", "epochs": 6, **stopping}
    problem = client.post(RUNS, json=asked).json()
    assert problem["code"] == "wrong_recipe"
    assert {entry["field"] for entry in problem["errors"]} == {
        "recipe.stages.2.epochs",
        "recipe.stages.2.early_stopping",
    }
