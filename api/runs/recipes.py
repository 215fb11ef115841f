"""The named recipes, what a run may change of them, and what makes a recipe whole; pure."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    Augment,
    CacheStage,
    EvaluateStage,
    FitStage,
    OneCycle,
    Recipe,
    Stage,
)

FINE_TUNE_LR = 2e-3
"""fastai's `fine_tune(base_lr=2e-3, pct_start=0.3, div=5.0)`; but two frozen epochs, batches of 32
and a body at a tenth of the head's rate, not a hundredth: on the lesson's bears (resnet18, seed 1)
4 of 96 pictures wrong, not 6. docs/measurements.md has the other seeds."""
PRESIZE = 460 / 224
"""Side of the cached pictures over the side of the model's input: room for one random crop."""

FINE_TUNE = Recipe(
    name="fine-tune",
    batch_size=32,
    stages=(
        CacheStage(presize=460),
        FitStage(
            name="frozen",
            epochs=2,
            schedule=OneCycle(pct_start=0.99),
            lr=FINE_TUNE_LR,
            frozen_to=-1,
        ),
        FitStage(
            name="unfrozen",
            epochs=4,
            schedule=OneCycle(pct_start=0.3, div=5.0),
            lr=FINE_TUNE_LR / 2,
            lr_body=FINE_TUNE_LR / 2 / 10,
        ),
        EvaluateStage(),
    ),
)
FROM_SCRATCH = Recipe(
    name="from-scratch",
    model="resnet18",
    weights="none",
    preprocess=Preprocess(size=64),
    # No flips: small pictures are often digits and letters, which a mirror makes into others.
    augment=Augment(flip=False, max_warp=0.0, min_scale=0.85),
    stages=(
        CacheStage(presize=72),
        FitStage(name="whole", epochs=8, schedule=OneCycle(), lr=3e-3),
        # Judging labels takes a whole model per fold here, each as long as the run itself.
        EvaluateStage(folds=3),
    ),
)
NAMED: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (FINE_TUNE, FROM_SCRATCH)}


class Changes(BaseModel):
    """What a run changes of its recipe; what is absent stays as the recipe has it."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = Field(default=None, description="A torchvision classifier by name.")
    weights: str | None = Field(
        default=None, description="`imagenet`, `none`, or a `file:` or `s3:` address."
    )
    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Epochs of the last fit stage."
    )
    size: int | None = Field(
        default=None, ge=8, le=1024, description="Side of the model's input in pixels."
    )
    batch_size: int | None = Field(default=None, ge=2, le=4096)


class BrokenRecipeError(ValueError):
    """A recipe that no trainer could follow: names the field, its value and the way out."""

    def __init__(self, detail: str, *, field: str, value: object, way_out: str) -> None:
        super().__init__(detail)
        self.field = field
        self.value = value
        self.way_out = way_out


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """Return the recipe with a run's changes; the presize follows the size."""
    given = {
        name: value
        for name in ("model", "weights", "batch_size")
        if (value := getattr(changes, name)) is not None
    }
    stages = recipe.stages
    if changes.epochs is not None:
        stages = _with_epochs(stages, changes.epochs)
    if changes.size is not None:
        given["preprocess"] = recipe.preprocess.model_copy(update={"size": changes.size})
        stages = _with_presize(stages, changes.size)
    return Recipe.model_validate({**dict(recipe), **given, "stages": stages})


def check_whole(recipe: Recipe) -> None:
    """Refuse a recipe without just one cache stage first and one evaluate stage last."""
    kinds = [stage.kind for stage in recipe.stages]
    inner = kinds[1:-1]
    if len(kinds) < 3 or kinds[0] != "cache" or kinds[-1] != "evaluate" or {*inner} != {"fit"}:
        raise BrokenRecipeError(
            f"the recipe {recipe.name} has the stages {', '.join(kinds) or '(none)'}",
            field="recipe.stages",
            value=", ".join(kinds),
            way_out="give one cache stage, then one fit stage or more, then one evaluate stage",
        )
    names = [stage.name for stage in recipe.stages if isinstance(stage, FitStage)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BrokenRecipeError(
            f"two fit stages are called {twice[0]!r}",
            field="recipe.stages",
            value=twice[0],
            way_out="give each fit stage a name of its own",
        )
    presize = next(stage.presize for stage in recipe.stages if isinstance(stage, CacheStage))
    if presize < recipe.preprocess.size:
        raise BrokenRecipeError(
            f"pictures are cached at {presize} pixels and trained at {recipe.preprocess.size}",
            field="recipe.stages.0.presize",
            value=presize,
            way_out=f"presize to at least {recipe.preprocess.size} pixels",
        )


def stored_recipe(body: object) -> Recipe:
    """Read a recipe that was stored; raises BrokenRecipeError when today's rules refuse it."""
    try:
        return Recipe.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise BrokenRecipeError(
            f"the stored recipe is of another version of bearloop: {first['msg']}",
            field="recipe." + ".".join(str(part) for part in first["loc"]),
            value=str(first.get("input"))[:100],
            way_out="store it anew under another name",
        ) from error


def _with_epochs(stages: tuple[Stage, ...], epochs: int) -> tuple[Stage, ...]:
    fits = [index for index, stage in enumerate(stages) if isinstance(stage, FitStage)]
    return tuple(
        stage.model_copy(update={"epochs": epochs}) if fits and index == fits[-1] else stage
        for index, stage in enumerate(stages)
    )


def _with_presize(stages: tuple[Stage, ...], size: int) -> tuple[Stage, ...]:
    presize = min(1024, round(size * PRESIZE))
    return tuple(
        stage.model_copy(update={"presize": presize}) if isinstance(stage, CacheStage) else stage
        for stage in stages
    )
