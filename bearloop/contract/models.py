"""The models that a recipe may name, torchvision's classifiers, and what it must know of them.

As data, so that recipes are judged where there is no torch; a test holds it equal to torchvision.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from bearloop.contract.export_sizes import file_bytes, most_members, smaller
from bearloop.contract.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEAST_SIZE,
    Channels,
)
from bearloop.contract.recipes import FitStage, Recipe

HALF: Final = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Model:
    """What a recipe must know of a model."""

    least: int = LEAST_SIZE
    """Side in pixels of the smallest input that it takes."""
    step: int = 1
    """The side is a multiple of this."""
    one_size: bool = False
    """Built for the recipe's size: no stage may train at another one."""
    feature_map: bool = True
    """Whether there is a map to pool; otherwise the model itself gives one vector a picture."""
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    """Of torchvision's weights, per channel, of pixels in 0..1."""


@dataclass(frozen=True)
class Misfit:
    """Why a recipe's model cannot be trained as the recipe says."""

    detail: str
    field: str
    """Below the recipe, e.g. `preprocess.size`."""
    value: str
    way_out: str


def find_misfits(recipe: Recipe) -> Iterator[Misfit]:
    """Give what is wrong between a recipe and its model; of an unknown model that alone is told."""
    model = MODELS.get(recipe.model)
    if model is None:
        yield _unknown(recipe.model)
        return
    if recipe.pool is not None and not model.feature_map:
        yield Misfit(
            f"{recipe.model} has no feature map to pool: its head sees the class token",
            field="pool",
            value=recipe.pool,
            way_out="leave `pool` out",
        )
    for place, stage in enumerate(recipe.stages):
        if isinstance(stage, FitStage) and stage.size is not None:
            yield from _wrong_size(recipe, stage.size, field=f"stages.{place}.size")
    yield from _wrong_size(recipe, recipe.preprocess.size, field="preprocess.size")
    yield from _too_large(recipe)


def with_own_statistics(recipe: Recipe) -> Recipe:
    """Return a recipe that normalises pixels as its weights expect, unless it says how.

    Random weights expect nothing: the recipe stays as it is.
    """
    model = MODELS.get(recipe.model)
    if model is None or recipe.weights == "none":
        return recipe
    own = {"mean": model.mean, "std": model.std}
    given = recipe.preprocess.model_fields_set
    return _normalising(recipe, {name: own[name] for name in own if name not in given})


def with_statistics_changed(recipe: Recipe, *, before: Recipe) -> Recipe:
    """Return a recipe of other weights than `before` with the statistics of its own.

    Where `before` had neither its weights' statistics nor ImageNet's they are the user's, and stay.
    """
    model, former = MODELS.get(recipe.model), MODELS.get(before.model, Model())
    same = (recipe.model, recipe.weights) == (before.model, before.weights)
    if model is None or same or recipe.weights == "none":
        return recipe
    given = (recipe.preprocess.mean, recipe.preprocess.std)
    if given not in ((IMAGENET_MEAN, IMAGENET_STD), (former.mean, former.std)):
        return recipe
    return _normalising(recipe, {"mean": model.mean, "std": model.std})


_PATCHES_14: Final = Model(least=14, step=14, one_size=True, feature_map=False)
_PATCHES_16: Final = Model(least=16, step=16, one_size=True, feature_map=False)
_PATCHES_32: Final = Model(least=32, step=32, one_size=True, feature_map=False)
"""Vision transformers learn one embedding for the place of each patch."""

MODELS: Final[Mapping[str, Model]] = {
    "alexnet": Model(least=63),
    "convnext_tiny": Model(least=32),
    "convnext_small": Model(least=32),
    "convnext_base": Model(least=32),
    "convnext_large": Model(least=32),
    "densenet121": Model(least=29),
    "densenet161": Model(least=29),
    "densenet169": Model(least=29),
    "densenet201": Model(least=29),
    "efficientnet_b0": Model(),
    "efficientnet_b1": Model(),
    "efficientnet_b2": Model(),
    "efficientnet_b3": Model(),
    "efficientnet_b4": Model(),
    "efficientnet_b5": Model(),
    "efficientnet_b6": Model(),
    "efficientnet_b7": Model(),
    "efficientnet_v2_s": Model(),
    "efficientnet_v2_m": Model(),
    "efficientnet_v2_l": Model(mean=HALF, std=HALF),
    # torchvision's network itself turns ImageNet's statistics into these before its first layer.
    "googlenet": Model(least=15, mean=HALF, std=HALF),
    "inception_v3": Model(least=75, mean=HALF, std=HALF),
    # Windows of 7 x 7, down to a 32nd of the side.
    "maxvit_t": Model(least=224, step=224, one_size=True),
    "mnasnet0_5": Model(),
    "mnasnet0_75": Model(),
    "mnasnet1_0": Model(),
    "mnasnet1_3": Model(),
    "mobilenet_v2": Model(),
    "mobilenet_v3_small": Model(),
    "mobilenet_v3_large": Model(),
    "regnet_x_400mf": Model(),
    "regnet_x_800mf": Model(),
    "regnet_x_1_6gf": Model(),
    "regnet_x_3_2gf": Model(),
    "regnet_x_8gf": Model(),
    "regnet_x_16gf": Model(),
    "regnet_x_32gf": Model(),
    "regnet_y_400mf": Model(),
    "regnet_y_800mf": Model(),
    "regnet_y_1_6gf": Model(),
    "regnet_y_3_2gf": Model(),
    "regnet_y_8gf": Model(),
    "regnet_y_16gf": Model(),
    "regnet_y_32gf": Model(),
    "regnet_y_128gf": Model(),
    "resnet18": Model(),
    "resnet34": Model(),
    "resnet50": Model(),
    "resnet101": Model(),
    "resnet152": Model(),
    "resnext50_32x4d": Model(),
    "resnext101_32x8d": Model(),
    "resnext101_64x4d": Model(),
    "shufflenet_v2_x0_5": Model(),
    "shufflenet_v2_x1_0": Model(),
    "shufflenet_v2_x1_5": Model(),
    "shufflenet_v2_x2_0": Model(),
    "squeezenet1_0": Model(least=21),
    "squeezenet1_1": Model(least=17),
    "swin_t": Model(),
    "swin_s": Model(),
    "swin_b": Model(),
    "swin_v2_t": Model(),
    "swin_v2_s": Model(),
    "swin_v2_b": Model(),
    "vgg11": Model(least=32),
    "vgg11_bn": Model(least=32),
    "vgg13": Model(least=32),
    "vgg13_bn": Model(least=32),
    "vgg16": Model(least=32),
    "vgg16_bn": Model(least=32),
    "vgg19": Model(least=32),
    "vgg19_bn": Model(least=32),
    "vit_b_16": _PATCHES_16,
    "vit_b_32": _PATCHES_32,
    "vit_l_16": _PATCHES_16,
    "vit_l_32": _PATCHES_32,
    "vit_h_14": _PATCHES_14,
    "wide_resnet50_2": Model(),
    "wide_resnet101_2": Model(),
}
"""By torchvision's names."""


def _normalising(recipe: Recipe, statistics: Mapping[str, Channels]) -> Recipe:
    preprocess = recipe.preprocess.model_copy(update=statistics)
    return recipe.model_copy(update={"preprocess": preprocess})


def _unknown(name: str) -> Misfit:
    near = get_close_matches(name, MODELS, cutoff=0.5) or ["resnet18", "resnet34", "resnet50"]
    return Misfit(
        f"there is no model {name!r}",
        field="model",
        value=name,
        way_out=f"take one of torchvision's classifiers, such as {', '.join(near)}; "
        "docs/training.md lists them all",
    )


def _wrong_size(recipe: Recipe, size: int, *, field: str) -> Iterator[Misfit]:
    model = MODELS[recipe.model]
    if size < model.least or size % model.step:
        takes = f"pictures of {model.least} pixels a side and more"
        if model.step > 1:
            takes = f"multiples of {model.step} pixels a side"
        yield Misfit(
            f"{recipe.model} takes {takes}, the recipe gives it {size}",
            field=field,
            value=str(size),
            way_out=f"take {_nearest(model, size)}, or another model",
        )
    elif model.one_size and size != recipe.preprocess.size:
        yield Misfit(
            f"{recipe.model} is built for one size, {recipe.preprocess.size}, and a stage trains "
            f"at {size}",
            field=field,
            value=str(size),
            way_out="leave the stage's `size` out, or take a model with a feature map",
        )


def _too_large(recipe: Recipe) -> Iterator[Misfit]:
    """Find what no bundle could hold: one ONNX file has the model, or all of its snapshots."""
    name, most = recipe.model, most_members(recipe.model)
    if not most:
        yield Misfit(
            f"{name} cannot be exported: its ONNX file would take {_gib(name, 1)}, and one ends at "
            "2 GiB",
            field="model",
            value=name,
            way_out=f"take a smaller model{_such_as(name, 1)}",
        )
        return
    for place, stage in enumerate(recipe.stages):
        if not isinstance(stage, FitStage) or len(stage.snapshots) <= most:
            continue
        kept, epochs = len(stage.snapshots), stage.snapshots[most - 1]
        yield Misfit(
            f"{kept} snapshots of {name} cannot be exported: their one ONNX file would take "
            f"{_gib(name, kept)}, and one ends at 2 GiB",
            field=f"stages.{place}.schedule.snapshots",
            value="true",
            way_out=f"set the stage's `epochs` to {epochs}, which keeps {most}, leave `snapshots` "
            f"out, or take a smaller model{_such_as(name, kept)}",
        )


def _gib(model: str, members: int) -> str:
    return f"about {file_bytes(model, members=members) / 2**30:.1f} GiB"


def _such_as(model: str, members: int) -> str:
    found = smaller(model, members=members)
    return "" if found is None else f", such as {found}"


def _nearest(model: Model, size: int) -> int:
    return max(model.least, round(size / model.step) * model.step)
