"""What a recipe must know of its model: names, sizes, pools and the weights' statistics."""

import pytest

from bearloop.contract.export_sizes import (
    LARGEST_FILE,
    PARAMETERS,
    file_bytes,
    most_members,
    smaller,
)
from bearloop.contract.models import (
    HALF,
    MODELS,
    find_misfits,
    with_own_statistics,
    with_statistics_changed,
)
from bearloop.contract.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from bearloop.contract.recipes import (
    CacheStage,
    CosineRestarts,
    EvaluateStage,
    FitStage,
    Recipe,
)

OWN = (0.4, 0.4, 0.4)


def asked(**fields: object) -> Recipe:
    stages = (CacheStage(), FitStage(name="whole", epochs=1, lr=1e-3), EvaluateStage())
    return Recipe.model_validate({"name": "own", "stages": stages, **fields})


def sized(model: str, size: int, *, first: int | None = None) -> Recipe:
    stages = (
        CacheStage(presize=1024),
        FitStage(name="first", epochs=1, lr=1e-3, size=first),
        FitStage(name="last", epochs=1, lr=1e-3),
        EvaluateStage(),
    )
    return asked(model=model, preprocess=Preprocess(size=size), stages=stages)


def cycling(model: str, *, epochs: int) -> Recipe:
    cycles = CosineRestarts(cycle_mult=2, snapshots=True)
    last = FitStage(name="last", epochs=epochs, lr=1e-3, schedule=cycles)
    return asked(model=model, stages=(CacheStage(), last, EvaluateStage()))


@pytest.mark.parametrize("name", sorted({*MODELS} - {"regnet_y_128gf", "vit_h_14"}))
def test_every_model_takes_the_recipes_default_size(name: str) -> None:
    assert not list(find_misfits(asked(model=name)))


@pytest.mark.parametrize(
    ("recipe", "field", "says", "way_out"),
    [
        (asked(model="resnet35"), "model", "no model 'resnet35'", "resnet34"),
        (asked(model="bears"), "model", "no model 'bears'", "resnet18"),
        (sized("alexnet", 62), "preprocess.size", "63 pixels a side and more", "take 63"),
        (sized("vit_b_16", 100), "preprocess.size", "multiples of 16", "take 96"),
        (sized("vit_b_32", 16), "preprocess.size", "multiples of 32", "take 32"),
        (sized("maxvit_t", 256), "preprocess.size", "multiples of 224", "take 224"),
        (sized("densenet121", 64, first=28), "stages.1.size", "29 pixels", "take 29"),
        (sized("vit_b_16", 224, first=112), "stages.1.size", "built for one size, 224", "`size`"),
        (asked(model="vit_b_16", pool="concat"), "pool", "class token", "leave `pool` out"),
    ],
)
def test_what_a_model_cannot_take_is_named(
    recipe: Recipe, field: str, says: str, way_out: str
) -> None:
    (misfit,) = find_misfits(recipe)
    assert misfit.field == field
    assert says in misfit.detail
    assert way_out in misfit.way_out


@pytest.mark.parametrize(
    ("name", "says", "way_out"),
    [
        ("regnet_y_128gf", "about 2.4 GiB", "take a smaller model, such as regnet_y_32gf"),
        ("vit_h_14", "about 2.4 GiB", "take a smaller model, such as vit_l_32"),
    ],
)
def test_a_model_that_no_onnx_file_holds_is_refused(name: str, says: str, way_out: str) -> None:
    for recipe in (asked(model=name), cycling(name, epochs=3)):
        (misfit,) = find_misfits(recipe)
        assert (misfit.field, misfit.value, misfit.way_out) == ("model", name, way_out)
        assert says in misfit.detail


@pytest.mark.parametrize(
    ("name", "epochs", "way_out"),
    [
        ("vit_l_16", 1, "or take a smaller model, such as vit_b_32"),
        ("vit_l_32", 1, "or take a smaller model, such as vit_b_32"),
        ("convnext_large", 3, "or take a smaller model, such as convnext_base"),
    ],
)
def test_snapshots_that_no_onnx_file_holds_are_refused(
    name: str, epochs: int, way_out: str
) -> None:
    (misfit,) = find_misfits(cycling(name, epochs=7))
    assert (misfit.field, misfit.value) == ("stages.1.schedule.snapshots", "true")
    assert misfit.detail.startswith(f"3 snapshots of {name} cannot be exported")
    assert misfit.way_out.startswith(f"set the stage's `epochs` to {epochs}, which")
    assert misfit.way_out.endswith(way_out)
    assert not list(find_misfits(cycling(name, epochs=epochs)))
    assert not list(find_misfits(asked(model=name)))


def test_a_file_is_filled_and_not_overfilled() -> None:
    assert {*PARAMETERS} == {*MODELS}
    for name in PARAMETERS:
        most = most_members(name)
        assert not most or file_bytes(name, members=most) <= LARGEST_FILE
        assert file_bytes(name, members=most + 1) > LARGEST_FILE
    assert smaller("resnet18", members=100) is None


def test_sizes_may_grow_where_there_is_a_feature_map() -> None:
    assert not list(find_misfits(sized("convnext_tiny", 224, first=64)))
    assert not list(find_misfits(sized("vit_b_16", 64, first=64)))


def test_pixels_are_normalised_as_the_weights_expect() -> None:
    assert with_own_statistics(asked()).preprocess == Preprocess()
    large = asked(model="efficientnet_v2_l", preprocess={"size": 320})
    assert with_own_statistics(large).preprocess == Preprocess(size=320, mean=HALF, std=HALF)


def test_users_statistics_stay() -> None:
    given = asked(model="efficientnet_v2_l", preprocess={"mean": OWN})
    assert with_own_statistics(given).preprocess == Preprocess(mean=OWN, std=HALF)
    imagenet = asked(
        model="efficientnet_v2_l", preprocess={"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    )
    assert with_own_statistics(imagenet) == imagenet


def test_random_weights_expect_nothing() -> None:
    recipe = asked(model="efficientnet_v2_l", weights="none")
    assert with_own_statistics(recipe) == recipe
    former = asked(model="googlenet", preprocess=Preprocess(mean=HALF, std=HALF))
    changed = former.model_copy(update={"weights": "none"})
    assert with_statistics_changed(changed, before=former) == changed


def test_another_models_statistics_follow_the_change() -> None:
    large = {"model": "efficientnet_v2_l"}
    former = asked()
    changed = with_statistics_changed(former.model_copy(update=large), before=former)
    assert changed.preprocess == Preprocess(mean=HALF, std=HALF)
    back = changed.model_copy(update={"model": "resnet18"})
    assert with_statistics_changed(back, before=changed).preprocess == Preprocess()
    own = asked(preprocess=Preprocess(mean=OWN))
    kept = with_statistics_changed(own.model_copy(update=large), before=own)
    assert kept.preprocess == Preprocess(mean=OWN)


def test_the_pool_is_left_out_of_older_recipes_digests() -> None:
    assert "pool" not in asked().model_dump()
    assert asked(pool="average").digest() != asked().digest()
