"""Recipes: the named ones, a project's own, and what no trainer could follow."""

import pytest
from fastapi.testclient import TestClient

from api.runs.named_recipes import (
    FINE_TUNE,
    FROM_SCRATCH,
    FROZEN_THEN_DISCRIMINATIVE,
    FULL_DATA,
    NAMED,
    PRECOMPUTE,
    PROGRESSIVE_RESIZE,
    WARM_RESTARTS,
)
from api.runs.recipe_faults import BrokenRecipeError, check_whole, stored_recipe
from api.runs.recipes import Changes, changed
from bearloop.contract.models import HALF
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    CacheStage,
    EarlyStopping,
    EvaluateStage,
    FeaturesStage,
    FitStage,
    Flat,
    LrFindStage,
    OneCycle,
    Recipe,
)
from tests.api.runs.conftest import RECIPES, RUNS, Zoo, start
from tests.api.runs.stages import AUTO, KEEPING, SMALL

HUGE = FitStage(name="huge", epochs=1, lr=1e-3, size=512)


def fits(recipe: Recipe) -> list[FitStage]:
    return [stage for stage in recipe.stages if isinstance(stage, FitStage)]


def test_fine_tune_is_fastai_s_with_a_quicker_body() -> None:
    frozen, unfrozen = fits(FINE_TUNE)
    assert (frozen.epochs, frozen.lr, frozen.frozen_to) == (2, 2e-3, -1)
    assert frozen.schedule == OneCycle(pct_start=0.99, div=25, div_final=1e5)
    assert (unfrozen.lr, unfrozen.lr_body, unfrozen.frozen_to) == (1e-3, pytest.approx(3e-5), 0)
    assert unfrozen.schedule == OneCycle(pct_start=0.3, div=5, div_final=1e5)
    assert (FINE_TUNE.model, FINE_TUNE.weights) == ("resnet34", "imagenet")


def test_from_scratch_needs_no_download_and_does_not_mirror_letters() -> None:
    assert FROM_SCRATCH.weights == "none"
    assert not FROM_SCRATCH.augment.flip
    assert FROM_SCRATCH.preprocess.size <= 64


def test_full_data_is_fine_tune_on_all_images() -> None:
    assert FULL_DATA.train_on == "all"
    assert FULL_DATA.stages == FINE_TUNE.stages
    kept = changed(FULL_DATA, Changes(train_on="train"))
    assert kept.model_copy(update={"name": "fine-tune"}) == FINE_TUNE
    assert changed(FINE_TUNE, Changes(train_on="all")).digest() != FINE_TUNE.digest()
    # A recipe that says nothing of it is encoded as before there was such a field.
    assert "train_on" not in FINE_TUNE.model_dump()


def test_frozen_then_discriminative_is_the_lesson_s_bears() -> None:
    frozen, unfrozen = fits(FROZEN_THEN_DISCRIMINATIVE)
    assert (frozen.epochs, frozen.lr, frozen.frozen_to) == (4, 3e-3, -1)
    assert (unfrozen.epochs, unfrozen.lr, unfrozen.lr_body) == (2, 3e-4, 3e-5)


def test_progressive_resize_grows_and_ends_at_the_size_asked_for() -> None:
    assert PROGRESSIVE_RESIZE.sizes() == [64, 128, 224, 299]
    asked = {320: [64, 128, 224, 320], 299: [64, 128, 224, 299], 224: [64, 128, 224], 96: [64, 96]}
    for size, sizes in {**asked, 64: [64], 32: [32]}.items():
        recipe = changed(PROGRESSIVE_RESIZE, Changes(size=size))
        check_whole(recipe)
        assert recipe.sizes() == sizes
        # The head, then all layers: once at each size.
        frozen_to = [stage.frozen_to for stage in fits(recipe)]
        assert frozen_to == [-1, 0] * len(sizes)
        assert fits(recipe)[-2:] == fits(PROGRESSIVE_RESIZE)[-2:]
    assert changed(PROGRESSIVE_RESIZE, Changes(size=299)) == PROGRESSIVE_RESIZE


def test_a_stage_that_a_smaller_run_leaves_out_takes_its_search_along() -> None:
    cache, *_, evaluate = PROGRESSIVE_RESIZE.stages
    first, second, last = (fits(PROGRESSIVE_RESIZE)[place] for place in (1, 3, -1))
    searched = (cache, LrFindStage(), first, LrFindStage(), second, LrFindStage(), last, evaluate)
    recipe = PROGRESSIVE_RESIZE.model_copy(update={"stages": searched})
    smaller = changed(recipe, Changes(size=96))
    check_whole(smaller)
    assert [stage.kind for stage in smaller.stages[1:-1]] == ["lr-find", "fit"] * 2
    assert [stage.name for stage in fits(smaller)] == [first.name, last.name]


def test_a_run_that_asks_for_its_recipe_s_own_size_changes_nothing() -> None:
    twice = [FINE_TUNE.stages[1].model_copy(update={"name": n, "size": 224}) for n in ("a", "b")]
    recipe = FINE_TUNE.model_copy(
        update={"stages": (FINE_TUNE.stages[0], *twice, FINE_TUNE.stages[-1])}
    )
    assert changed(recipe, Changes(size=224)) == recipe


def test_precompute_trains_the_head_alone_on_one_pass() -> None:
    (head,) = fits(PRECOMPUTE)
    assert (head.epochs, head.frozen_to) == (5, -1)
    assert PRECOMPUTE.feeding(head) == FeaturesStage(views=1)
    with pytest.raises(BrokenRecipeError, match="pretrained"):
        check_whole(changed(PRECOMPUTE, Changes(weights="none")))


def test_a_features_stage_feeds_until_the_body_is_trained() -> None:
    head, whole = (
        FitStage(name=n, epochs=3, lr=1e-3, frozen_to=f) for n, f in (("a", -1), ("b", 0))
    )
    again, late = head.model_copy(update={"name": "c"}), head.model_copy(update={"name": "d"})
    steps = (CacheStage(), FeaturesStage(views=3), head, again, whole, late, EvaluateStage())
    recipe = PRECOMPUTE.model_copy(update={"stages": steps})
    check_whole(recipe)
    fed = {stage.name: recipe.feeding(stage) is not None for stage in fits(recipe)}
    assert fed == {"a": True, "c": True, "b": False, "d": False}


def test_warm_restarts_keeps_the_end_of_each_of_three_cycles() -> None:
    _, last = fits(WARM_RESTARTS)
    assert (last.epochs, last.snapshots) == (7, (1, 3, 7))
    with pytest.raises(BrokenRecipeError, match="end within a cycle"):
        changed(WARM_RESTARTS, Changes(epochs=6))


@pytest.mark.parametrize("name", NAMED)
def test_the_named_recipes_are_whole(name: str) -> None:
    assert NAMED[name].name == name
    check_whole(NAMED[name])


def test_a_run_may_change_its_recipe() -> None:
    changes = Changes(model="resnet18", weights="none", epochs=3, size=112, batch_size=16)
    recipe = changed(FINE_TUNE, changes)
    assert (recipe.model, recipe.weights, recipe.batch_size) == ("resnet18", "none", 16)
    assert [stage.epochs for stage in fits(recipe)] == [2, 3]
    assert recipe.preprocess.size == 112
    assert recipe.stages[0] == CacheStage(presize=230)
    assert recipe.digest() != FINE_TUNE.digest()
    assert changed(FINE_TUNE, Changes()) == FINE_TUNE


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ((), "recipe.stages"),
        (FINE_TUNE.stages[1:], "recipe.stages"),
        (FINE_TUNE.stages[:-1], "recipe.stages"),
        ((*FINE_TUNE.stages, FINE_TUNE.stages[-1]), "recipe.stages"),
        (
            (FINE_TUNE.stages[0], *[FINE_TUNE.stages[1]] * 2, FINE_TUNE.stages[-1]),
            "recipe.stages",
        ),
        ((CacheStage(presize=100), *FINE_TUNE.stages[1:]), "recipe.stages.0.presize"),
        ((*FINE_TUNE.stages[:-1], LrFindStage(), FINE_TUNE.stages[-1]), "recipe.stages.3"),
        (
            (FINE_TUNE.stages[0], LrFindStage(), LrFindStage(), *FINE_TUNE.stages[1:]),
            "recipe.stages.1",
        ),
        ((FINE_TUNE.stages[0], AUTO, FINE_TUNE.stages[-1]), "recipe.stages.1.lr"),
        ((*FINE_TUNE.stages[:2], SMALL, FINE_TUNE.stages[-1]), "recipe.stages.2.size"),
        (
            (FINE_TUNE.stages[0], KEEPING, *FINE_TUNE.stages[1:]),
            "recipe.stages.1.schedule.snapshots",
        ),
        ((FINE_TUNE.stages[0], FeaturesStage(), *FINE_TUNE.stages[2:]), "recipe.stages.1"),
        ((*FINE_TUNE.stages[:3], FeaturesStage(), FINE_TUNE.stages[-1]), "recipe.stages.3"),
        ((*FINE_TUNE.stages[:1], HUGE, *FINE_TUNE.stages[1:]), "recipe.stages.0.presize"),
        ((*FINE_TUNE.stages[:2], AUTO, LrFindStage(), *FINE_TUNE.stages[2:]), "recipe.stages.2.lr"),
    ],
)
def test_a_recipe_that_no_trainer_could_follow_is_refused(stages: tuple, field: str) -> None:
    with pytest.raises(BrokenRecipeError) as refused:
        check_whole(FINE_TUNE.model_copy(update={"stages": stages}))
    assert refused.value.field == field
    assert refused.value.way_out


def test_what_a_recipe_does_not_use_changes_no_digest() -> None:
    stages = (CacheStage(), FitStage(name="whole", epochs=2, lr=1e-3), EvaluateStage())
    golden = "7338417717c793fcb985745e3c4b3bfcaa67d689e6d3f1165671d0be6874d8de"
    assert Recipe(name="golden", stages=stages).digest() == golden


def test_a_smaller_run_shrinks_the_stages_before_the_last() -> None:
    first, last = SMALL, FINE_TUNE.stages[-2]
    growing = FINE_TUNE.model_copy(
        update={"stages": (FINE_TUNE.stages[0], first, last, FINE_TUNE.stages[-1])}
    )
    for size, sizes in ((299, [64, 299]), (48, [48])):
        recipe = changed(growing, Changes(size=size))
        check_whole(recipe)
        assert recipe.sizes() == sizes


def test_a_run_may_even_out_its_classes_and_regularise() -> None:
    changes = Changes(class_weights="balanced", label_smoothing=0.1, mixup=0.4)
    recipe = changed(FINE_TUNE, changes)
    assert (recipe.class_weights, recipe.oversample) == ("balanced", False)
    assert [(stage.label_smoothing, stage.mixup) for stage in fits(recipe)] == [(0.1, 0.4)] * 2
    assert changed(FINE_TUNE, Changes(oversample=True)).oversample
    back = Changes(class_weights="none", label_smoothing=0, mixup=0)
    assert changed(recipe, back).digest() == FINE_TUNE.digest()


def test_a_run_may_change_its_numbers_and_its_batches() -> None:
    recipe = changed(FINE_TUNE, Changes(precision="fp16", batch_size=16, accumulate=4))
    assert (recipe.precision, recipe.step_size) == ("fp16", 64)


def test_the_last_stage_may_stop_early_but_not_with_one_cycle() -> None:
    changes = Changes(epochs=30, early_stopping=EarlyStopping(patience=3))
    with pytest.raises(BrokenRecipeError, match="must not be cut off") as refused:
        changed(FINE_TUNE, changes)
    assert refused.value.field == "recipe.stages.2.early_stopping"
    assert "the run's diagnosis proposes" in refused.value.way_out
    first, last = (stage.model_copy(update={"schedule": Flat()}) for stage in fits(FINE_TUNE))
    flat = FINE_TUNE.model_copy(
        update={"stages": (FINE_TUNE.stages[0], first, last, FINE_TUNE.stages[-1])}
    )
    stages = fits(changed(flat, changes))
    assert [stage.early_stopping for stage in stages] == [None, changes.early_stopping]
    assert [stage.epochs for stage in stages] == [2, 30]


def stopping_recipe() -> Recipe:
    first, last = (
        stage.model_copy(update={"schedule": Flat(), "early_stopping": EarlyStopping(patience=3)})
        for stage in fits(FINE_TUNE)
    )
    stages = (FINE_TUNE.stages[0], first, last, FINE_TUNE.stages[-1])
    return FINE_TUNE.model_copy(update={"name": "stopping", "stages": stages})


def test_null_switches_early_stopping_off_and_absent_leaves_it() -> None:
    stopping = stopping_recipe()
    kept = fits(changed(stopping, Changes(epochs=9)))
    assert [stage.early_stopping for stage in kept] == [EarlyStopping(patience=3)] * 2
    off = changed(stopping, Changes(early_stopping=None, train_on="all"))
    assert [stage.early_stopping for stage in fits(off)] == [None, None]
    check_whole(off)
    assert changed(stopping, Changes(epochs=None)) == stopping
    check_whole(changed(FINE_TUNE, Changes(early_stopping=None)))


def test_a_run_on_all_images_has_nothing_to_stop_by() -> None:
    first, last = (stage.model_copy(update={"schedule": Flat()}) for stage in fits(FULL_DATA))
    last = last.model_copy(update={"early_stopping": EarlyStopping(patience=3)})
    stages = (FULL_DATA.stages[0], first, last, FULL_DATA.stages[-1])
    stopping = FULL_DATA.model_copy(update={"stages": stages})
    with pytest.raises(BrokenRecipeError, match="'unfrozen' stops early") as refused:
        check_whole(stopping)
    assert refused.value.field == "recipe.stages.2.early_stopping"
    assert refused.value.value == {"patience": 3, "metric": "valid_loss"}
    assert "train_on train" in refused.value.way_out
    check_whole(stopping.model_copy(update={"train_on": "train"}))


def test_classes_are_not_evened_out_twice() -> None:
    with pytest.raises(BrokenRecipeError, match="would count twice") as refused:
        changed(FINE_TUNE, Changes(class_weights="balanced", oversample=True))
    assert refused.value.field == "recipe.class_weights"
    assert refused.value.way_out == "take one of the two"


def test_a_stored_recipe_of_other_rules_is_told() -> None:
    with pytest.raises(BrokenRecipeError, match="another version"):
        stored_recipe({"name": "old", "stages": [], "callbacks": []})


class TestOverRest:
    def test_the_named_ones_are_listed_complete(self, client: TestClient) -> None:
        items = client.get(RECIPES).json()["items"]
        assert [(item["name"], item["own"]) for item in items] == [(name, False) for name in NAMED]
        assert Recipe.model_validate(items[0]["recipe"]) == FINE_TUNE

    def test_a_project_keeps_its_own(self, client: TestClient, zoo: Zoo) -> None:
        own = changed(FINE_TUNE, Changes(epochs=7)).model_copy(update={"name": "seven"})
        body = own.model_dump(mode="json")
        assert client.post(RECIPES, json=body).status_code == 201
        assert client.post(RECIPES, json=body).status_code == 201
        assert [item["name"] for item in client.get(RECIPES).json()["items"]] == [*NAMED, "seven"]
        assert start(client, recipe="seven")["recipe"] == "seven"

    def test_a_name_stands_for_its_steps_for_ever(self, client: TestClient) -> None:
        own = FINE_TUNE.model_copy(update={"name": "mine"})
        assert client.post(RECIPES, json=own.model_dump(mode="json")).status_code == 201
        other = changed(own, Changes(epochs=9))
        for recipe in (other, changed(FINE_TUNE, Changes(epochs=9))):
            answer = client.post(RECIPES, json=recipe.model_dump(mode="json"))
            assert (answer.status_code, answer.json()["code"]) == (409, "recipe_exists")

    def test_a_run_is_bound_to_steps_and_not_to_a_name(self, client: TestClient, zoo: Zoo) -> None:
        mine = FINE_TUNE.model_copy(update={"name": "mine"})
        assert client.post(RECIPES, json=mine.model_dump(mode="json")).status_code == 201
        other = changed(mine, Changes(epochs=9))
        asked = [{}, {"epochs": 9}, {"recipe": other.model_dump(mode="json")}]
        numbers = [start(client, **{"recipe": "mine", **fields})["number"] for fields in asked]
        specs = [client.get(f"{RUNS}/{number}/spec").json() for number in numbers]
        trained = [Recipe.model_validate(spec["recipe"]) for spec in specs]
        assert trained == [mine, other, other]
        assert Recipe.model_validate(client.get(f"{RECIPES}/mine").json()["recipe"]) == mine

    def test_a_broken_one_is_refused(self, client: TestClient) -> None:
        broken = FINE_TUNE.model_copy(update={"name": "half", "stages": FINE_TUNE.stages[:1]})
        answer = client.post(RECIPES, json=broken.model_dump(mode="json"))
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "wrong_recipe")
        assert problem["field"] == "recipe.stages"

    def test_one_is_shown_by_name(self, client: TestClient) -> None:
        own = FINE_TUNE.model_copy(update={"name": "mine"})
        client.post(RECIPES, json=own.model_dump(mode="json"))
        shown = client.get(f"{RECIPES}/mine").json()
        assert (shown["own"], shown["digest"]) == (True, own.digest())
        assert Recipe.model_validate(shown["recipe"]) == own
        assert not client.get(f"{RECIPES}/fine-tune").json()["own"]
        lacking = client.get(f"{RECIPES}/magic")
        assert (lacking.status_code, lacking.json()["code"]) == (404, "no_such_recipe")

    def test_an_auto_rate_without_an_lr_find_is_refused(self, client: TestClient) -> None:
        lacking = FINE_TUNE.model_copy(
            update={"name": "lacking", "stages": (FINE_TUNE.stages[0], AUTO, FINE_TUNE.stages[-1])}
        )
        problem = client.post(RECIPES, json=lacking.model_dump(mode="json")).json()
        assert (problem["code"], problem["field"]) == ("wrong_recipe", "recipe.stages.1.lr")
        assert "'first'" in problem["detail"]
        assert "lr-find" in problem["way_out"]

    def test_a_run_may_ask_for_the_rate_to_be_found(self, client: TestClient, zoo: Zoo) -> None:
        assert start(client, lr="auto")["recipe"] == "fine-tune"
        odd = client.post(RUNS, json={"dataset": "bears", "lr": 1e-323})
        assert (odd.status_code, odd.json()["code"]) == (422, "wrong_recipe")

    def test_a_run_may_ask_for_options_and_hears_which_is_wrong(
        self, client: TestClient, zoo: Zoo
    ) -> None:
        start(client, oversample=True, label_smoothing=0.1, mixup=0.4)
        for field, value in (("mixup", -1), ("label_smoothing", 1), ("class_weights", "even")):
            answer = client.post(RUNS, json={"dataset": "bears", field: value})
            assert (answer.status_code, answer.json()["field"]) == (422, f"body.{field}")
        early = {"dataset": "bears", "early_stopping": {"patience": 2}}
        problem = client.post(RUNS, json=early).json()
        assert problem["field"] == "recipe.stages.2.early_stopping"
        half = {"dataset": "bears", "precision": "fp16"}
        problem = client.post(RUNS, json={**half, "device": "cpu"}).json()
        assert (problem["code"], problem["field"]) == ("contradicting_resources", "precision")
        assert client.post(RUNS, json={**half, "device": "cuda"}).status_code == 202

    def test_any_recipe_may_be_repeated_on_all_images(self, client: TestClient, zoo: Zoo) -> None:
        run = start(client, recipe="from-scratch", train_on="all")
        spec = client.get(f"{RUNS}/{run['number']}/spec").json()
        assert (spec["recipe"]["name"], spec["recipe"]["train_on"]) == ("from-scratch", "all")
        answer = client.post(RUNS, json={"dataset": "bears", "train_on": "all", "seeds": 2})
        assert [run["seed"] for run in answer.json()["items"]] == [42, 43]
        flat = [stage.model_copy(update={"schedule": Flat()}) for stage in fits(FINE_TUNE)]
        stages = (FINE_TUNE.stages[0], *flat, FINE_TUNE.stages[-1])
        recipe = FINE_TUNE.model_copy(update={"stages": stages}).model_dump(mode="json")
        asked = {"dataset": "bears", "recipe": recipe, "early_stopping": {"patience": 2}}
        assert client.post(RUNS, json=asked).status_code == 202
        problem = client.post(RUNS, json={**asked, "train_on": "all"})
        assert (problem.status_code, problem.json()["code"]) == (422, "wrong_recipe")
        assert problem.json()["field"] == "recipe.stages.2.early_stopping"
        assert problem.json()["value"] == {"patience": 2, "metric": "valid_loss"}
        assert "train_on train" in problem.json()["way_out"]
        wrong = client.post(RUNS, json={"dataset": "bears", "train_on": "most"})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "body.train_on")

    def test_a_stored_recipe_that_stops_early_may_be_run_whole(
        self, client: TestClient, zoo: Zoo
    ) -> None:
        body = stopping_recipe().model_dump(mode="json")
        assert client.post(RECIPES, json=body).status_code == 201
        asked = {"dataset": "bears", "recipe": "stopping", "train_on": "all"}
        problem = client.post(RUNS, json=asked).json()
        assert problem["field"] == "recipe.stages.1.early_stopping"
        assert problem["way_out"].startswith("give early_stopping null")
        run = start(client, recipe="stopping", train_on="all", early_stopping=None, epochs=5)
        spec = client.get(f"{RUNS}/{run['number']}/spec").json()
        told = [stage for stage in spec["recipe"]["stages"] if stage["kind"] == "fit"]
        assert [stage["epochs"] for stage in told] == [2, 5]
        assert not any("early_stopping" in stage for stage in told)

    def test_an_unknown_name_tells_the_known_ones(self, client: TestClient, zoo: Zoo) -> None:
        answer = client.post(RUNS, json={"dataset": "bears", "recipe": "magic"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_recipe")
        assert "fine-tune" in answer.json()["way_out"]

    def test_a_model_that_torchvision_lacks_is_refused(self, client: TestClient) -> None:
        unknown = FINE_TUNE.model_copy(update={"name": "unknown", "model": "resnet35"})
        problem = client.post(RECIPES, json=unknown.model_dump(mode="json")).json()
        assert (problem["code"], problem["field"]) == ("wrong_recipe", "recipe.model")
        assert "resnet34" in problem["way_out"]

    def test_what_cannot_be_exported_is_refused_when_it_is_asked_for(
        self, client: TestClient, zoo: Zoo
    ) -> None:
        wrong = {
            ("fine-tune", "vit_h_14"): ("recipe.model", "vit_h_14"),
            ("warm-restarts", "vit_l_16"): ("recipe.stages.2.schedule.snapshots", "true"),
        }
        for (recipe, model), told in wrong.items():
            answer = client.post(RUNS, json={"dataset": "bears", "recipe": recipe, "model": model})
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "wrong_recipe")
            assert (problem["field"], problem["value"]) == told
            assert "2 GiB" in problem["detail"]
            assert "smaller model, such as vit_" in problem["way_out"]
        start(client, recipe="warm-restarts", model="vit_l_16", epochs=1)

    def test_what_a_recipe_does_not_say_of_pixels_is_stored_as_its_weights_expect(
        self, client: TestClient
    ) -> None:
        body = FINE_TUNE.model_dump(mode="json") | {"name": "large", "model": "efficientnet_v2_l"}
        body["preprocess"] = {"size": 128}
        for _ in range(2):
            answer = client.post(RECIPES, json=body)
            assert answer.status_code == 201
            assert answer.json()["recipe"]["preprocess"]["std"] == [0.5, 0.5, 0.5]


def test_a_run_with_another_model_normalises_as_its_weights_expect() -> None:
    recipe = changed(FINE_TUNE, Changes(model="efficientnet_v2_l", size=128))
    assert recipe.preprocess == Preprocess(size=128, mean=HALF, std=HALF)
    assert changed(recipe, Changes(model="resnet18")).preprocess == Preprocess(size=128)


def test_progressive_resize_needs_a_model_of_any_size() -> None:
    check_whole(changed(PROGRESSIVE_RESIZE, Changes(model="convnext_tiny")))
    with pytest.raises(BrokenRecipeError, match="built for one size, 299") as caught:
        check_whole(changed(PROGRESSIVE_RESIZE, Changes(model="vit_b_16")))
    assert caught.value.field == "recipe.stages.1.size"
