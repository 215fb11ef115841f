"""What a run may change of its recipe, and what makes a recipe whole; pure."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bearloop.contract.models import find_misfit, with_own_statistics, with_statistics_changed
from bearloop.contract.preprocess import Resize
from bearloop.contract.recipes import (
    AnyAugment,
    Augment,
    CacheStage,
    EarlyStopping,
    EvaluateStage,
    FeaturesStage,
    FitStage,
    LrFindStage,
    Precision,
    Rate,
    Recipe,
    Stage,
    TrainOn,
)


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
        default=None,
        ge=8,
        le=1024,
        description="Side of the model's input in pixels. Stages with a size of their own keep "
        "it, as long as it is no larger.",
    )
    batch_size: int | None = Field(
        default=None, ge=2, le=4096, description="Stages with one of their own keep it."
    )
    lr: Rate | Literal["auto"] | None = Field(
        default=None,
        description="Highest rate of the first fit stage's head; the other rates keep their "
        "proportion to it. `auto`: an lr-find before the first stage finds it.",
    )
    train_on: TrainOn | None = Field(
        default=None,
        description="`all`: every labelled image, the valid and test ones too; then nothing is "
        "held out and no error is measured. `train`: the train split, the others are held out.",
    )
    oversample: bool | None = Field(
        default=None, description="Draw rare classes as often as the commonest."
    )
    class_weights: Literal["none", "balanced"] | None = Field(
        default=None,
        description="`balanced`: a picture counts by the inverse of its class's share.",
    )
    label_smoothing: float | None = Field(
        default=None, ge=0, lt=1, description="Of every fit stage; 0 is none."
    )
    mixup: float | None = Field(
        default=None, ge=0, le=10, description="Alpha of every fit stage's blending; 0 blends none."
    )
    weight_decay: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Of every fit stage."
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Of the head. Stages with one of their own keep it."
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="Of the last fit stage. Refused with one-cycle, whose last epochs count most.",
    )
    precision: Precision | None = Field(
        default=None, description="Of training. fp16 needs a GPU; bf16 needs no scaling of losses."
    )
    accumulate: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Batches that make one step, as of a batch so many times as large.",
    )
    augment: AnyAugment | None = Field(
        default=None,
        description="`side-on`, `top-down`, `none`, or an object: its fields change those of the "
        "recipe's augmentation.",
    )
    resize: Resize | None = Field(
        default=None,
        description="How a picture becomes square, in training, validation and serving alike.",
    )
    tta_views: int | None = Field(
        default=None,
        ge=0,
        le=32,
        description="Augmented views of test-time augmentation; 0 leaves it out.",
    )
    tta_plain_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Weight of the plain picture beside them; the views share the rest evenly.",
    )


OF_RECIPE = (
    "model", "weights", "train_on", "batch_size", "oversample", "class_weights", "precision",
    "accumulate", "dropout",
)  # fmt: skip
OF_FITS = ("label_smoothing", "mixup", "weight_decay")
OF_LAST = ("epochs", "early_stopping")
OF_PREPROCESS = ("size", "resize")
OF_EVALUATE = ("tta_views", "tta_plain_weight")
"""Changes that bear the name of the field that they change: the recipe's, every fit stage's, the
last one's, the preprocess's, the evaluate stage's."""


class BrokenRecipeError(ValueError):
    """A recipe that no trainer could follow: names the field, its value and the way out."""

    def __init__(self, detail: str, *, field: str, value: object, way_out: str) -> None:
        super().__init__(detail)
        self.field = field
        self.value = value
        self.way_out = way_out
        self.others: tuple[BrokenRecipeError, ...] = ()
        """What else is wrong with the recipe."""


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """Return the recipe with a run's changes; the presize follows the size.

    Pixels are normalised as the weights expect it, unless the recipe says how.
    """
    recipe = with_own_statistics(recipe)
    given = _given(changes, OF_RECIPE)
    stages = _with_fits(recipe.stages, changes)
    given["preprocess"] = recipe.preprocess.model_copy(update=_given(changes, OF_PREPROCESS))
    if changes.size is not None:
        stages = _with_sizes(stages, changes.size, before=recipe.preprocess.size)
    if changes.augment is not None:
        given["augment"] = _with_fields(recipe.augment, changes.augment)
    stages = _with_views(stages, changes)
    if changes.lr == "auto":
        stages = _with_rate_found(stages)
    elif changes.lr is not None:
        stages = _with_rate(stages, changes.lr)
    steps = [stage.model_dump() for stage in stages]
    try:
        whole = Recipe.model_validate({**dict(recipe), **given, "stages": steps})
    except ValidationError as error:
        raise _unchangeable(recipe, error) from error
    return with_statistics_changed(whole, before=recipe)


def check_whole(recipe: Recipe) -> None:
    """Refuse a recipe that no trainer could follow; the error holds all that is wrong with it."""
    found = faults(recipe)
    if found:
        found[0].others = tuple(found[1:])
        raise found[0]


def faults(recipe: Recipe) -> list[BrokenRecipeError]:
    """Return all that is wrong with a recipe; with wrong stages nothing else is looked at."""
    shape = list(_shape_faults(recipe))
    if shape:
        return shape
    checks = (
        *(_rate_faults, _name_faults, _size_faults, _snapshot_faults, _feature_faults),
        *(_stopping_faults, _model_faults),
    )
    return [fault for check in checks for fault in check(recipe)]


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


def _given(changes: Changes, names: Sequence[str]) -> dict[str, object]:
    values = {name: getattr(changes, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _unchangeable(recipe: Recipe, error: ValidationError) -> BrokenRecipeError:
    first = error.errors()[0]
    # pydantic names the kind of a stage too, which is no field.
    where = [part for part in first["loc"] if part != "fit"]
    what, way_out = first["msg"], "give numbers of a likelier size"
    if first["type"] == "value_error":
        # The contract's own words: the field at fault, what is wrong with it, and the way out.
        name, _, said = str(first["ctx"]["error"]).partition(": ")
        where.append(name)
        what, _, way_out = said.partition(": ")
    return BrokenRecipeError(
        f"the recipe {recipe.name} cannot be changed so: {what}",
        field=".".join(str(part) for part in ("recipe", *where)),
        value=str(first.get("input"))[:100],
        way_out=way_out or what,
    )


def _shape_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Want one cache stage first and one evaluate stage last, and a fit stage between."""
    kinds = [stage.kind for stage in recipe.stages]
    inner = kinds[1:-1]
    trains = "fit" in inner and {*inner} <= {"fit", "lr-find", "features"}
    if len(kinds) < 3 or kinds[0] != "cache" or kinds[-1] != "evaluate" or not trains:
        yield BrokenRecipeError(
            f"the recipe {recipe.name} has the stages {', '.join(kinds) or '(none)'}",
            field="recipe.stages",
            value=", ".join(kinds),
            way_out="give one cache stage, then one fit stage or more, then one evaluate stage",
        )


def _name_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Want each fit stage to have a name of its own."""
    names = [stage.name for stage in recipe.stages if isinstance(stage, FitStage)]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield BrokenRecipeError(
            f"two fit stages are called {twice!r}",
            field="recipe.stages",
            value=twice,
            way_out="give each fit stage a name of its own",
        )


def _rate_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find an lr-find that stands before no fit stage, and `auto` where none finds a rate."""
    for place, (stage, after) in enumerate(pairwise(recipe.stages)):
        if isinstance(stage, LrFindStage) and not isinstance(after, FitStage):
            yield BrokenRecipeError(
                f"the lr-find stage stands before {after.kind}: what should it train?",
                field=f"recipe.stages.{place}",
                value=stage.kind,
                way_out="put it right before the fit stage that takes its rate",
            )
    lacking = recipe.without_rate()
    if lacking is not None:
        yield BrokenRecipeError(
            f"the stage {lacking.name!r} takes the rate that an lr-find finds, and none is there",
            field=f"recipe.stages.{recipe.stages.index(lacking)}.lr",
            value="auto",
            way_out="put an lr-find stage before it, or give a number",
        )


def _size_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find pictures larger than they are cached, and a last stage that is not the bundle's."""
    largest, last = recipe.sizes()[-1], recipe.fits()[-1][1]
    presize = next(stage.presize for stage in recipe.stages if isinstance(stage, CacheStage))
    if presize < largest:
        yield BrokenRecipeError(
            f"pictures are cached at {presize} pixels and trained at {largest}",
            field="recipe.stages.0.presize",
            value=presize,
            way_out=f"presize to at least {largest} pixels",
        )
    if last.size not in (None, recipe.preprocess.size):
        yield BrokenRecipeError(
            f"the last stage trains at {last.size} pixels, the report and the bundle are made at "
            f"{recipe.preprocess.size}",
            field=f"recipe.stages.{recipe.stages.index(last)}.size",
            value=last.size,
            way_out=f"give the recipe's preprocess the size {last.size}, or the stage none",
        )


def _snapshot_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find snapshots of any stage but the last: the others are of a model not yet trained."""
    for place, stage in enumerate(recipe.stages[:-2]):
        if isinstance(stage, FitStage) and stage.snapshots:
            yield BrokenRecipeError(
                f"the stage {stage.name!r} keeps snapshots, and another one trains after it",
                field=f"recipe.stages.{place}.schedule.snapshots",
                value=True,
                way_out="keep the snapshots of the last fit stage",
            )


def _stopping_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find a stage that waits for valid images to get no better where none is held out."""
    stage = recipe.stopped_by_nothing()
    if stage is not None:
        yield BrokenRecipeError(
            f"the stage {stage.name!r} stops early, and with train_on all nothing is held out to "
            "stop by",
            field=f"recipe.stages.{recipe.stages.index(stage)}.early_stopping",
            value=stage.early_stopping and stage.early_stopping.model_dump(),
            way_out="leave early_stopping out and give as many epochs as the run with its splits "
            "kept took, or give train_on train",
        )


def _model_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find what the recipe's model cannot do."""
    misfit = find_misfit(recipe)
    if misfit is not None:
        yield BrokenRecipeError(
            misfit.detail,
            field=f"recipe.{misfit.field}",
            value=misfit.value,
            way_out=misfit.way_out,
        )


def _feature_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find activations that no head learns from, or of a body that knows nothing."""
    for place, stage in enumerate(recipe.stages):
        if not isinstance(stage, FeaturesStage):
            continue
        after = [step for step in recipe.stages[place + 1 :] if not isinstance(step, LrFindStage)]
        if not isinstance(after[0], FitStage) or not after[0].head_only:
            yield BrokenRecipeError(
                "no fit stage behind the features stage trains the head alone",
                field=f"recipe.stages.{place}",
                value=stage.kind,
                way_out="put a fit stage with frozen_to -1 right behind it",
            )
        if recipe.weights == "none":
            yield BrokenRecipeError(
                "the features of a body without pretrained weights tell nothing",
                field="recipe.weights",
                value="none",
                way_out="take pretrained weights, or leave the features stage out",
            )


def _with_fields(before: Augment, changes: Augment) -> dict[str, object]:
    """Lay the fields that were given over the recipe's; a preset gives them all."""
    return {**dict(before), **{name: getattr(changes, name) for name in changes.model_fields_set}}


def _with_views(stages: tuple[Stage, ...], changes: Changes) -> tuple[Stage, ...]:
    given = _given(changes, OF_EVALUATE)
    return tuple(
        stage.model_copy(update=given) if isinstance(stage, EvaluateStage) else stage
        for stage in stages
    )


def _with_rate(stages: tuple[Stage, ...], lr: float) -> tuple[Stage, ...]:
    """Scale all rates so that the first fit stage's is `lr`; what is found is a number then."""
    first = _first_rate(stages)
    return tuple(
        _in_proportion(stage, to=first).at(lr) if isinstance(stage, FitStage) else stage
        for stage in stages
    )


def _with_rate_found(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Let an lr-find before the first fit stage find the rates, all in their proportion."""
    first = _first_rate(stages)
    found: list[Stage] = []
    for stage in stages:
        if not isinstance(stage, FitStage):
            found.append(stage)
            continue
        searched = any(isinstance(before, LrFindStage) for before in found)
        found += [] if searched else [LrFindStage()]
        found.append(_in_proportion(stage, to=first))
    return tuple(found)


def _first_rate(stages: tuple[Stage, ...]) -> float:
    """Return the first fit stage's rate, as a number or as a multiple of what is found."""
    for stage in stages:
        if isinstance(stage, FitStage):
            return _rate(stage)
    return 1.0


def _rate(stage: FitStage) -> float:
    return (stage.lr_times or 1.0) if isinstance(stage.lr, str) else stage.lr


def _in_proportion(stage: FitStage, *, to: float) -> FitStage:
    """Return the stage with its rates as multiples of a rate that is yet to be known."""
    times, share = _rate(stage) / to, stage.body_share
    multiples = {
        "lr": "auto",
        "lr_body": None,
        "lr_times": None if times == 1 else times,
        "lr_body_times": None if share is None else times * share,
    }
    return stage.model_copy(update=multiples)


def _with_fits(stages: tuple[Stage, ...], changes: Changes) -> tuple[Stage, ...]:
    """Change every fit stage, and the last one's epochs and when it may stop."""
    fits = [index for index, stage in enumerate(stages) if isinstance(stage, FitStage)]
    of_all, of_last = _given(changes, OF_FITS), _given(changes, OF_LAST)
    return tuple(
        stage.model_copy(update={**of_all, **(of_last if index == fits[-1] else {})})
        if isinstance(stage, FitStage)
        else stage
        for index, stage in enumerate(stages)
    )


def _with_sizes(stages: tuple[Stage, ...], size: int, *, before: int) -> tuple[Stage, ...]:
    """Let the presize keep its proportion; no stage before the last trains larger than that."""
    sized: list[Stage] = []
    for stage in stages:
        if isinstance(stage, CacheStage):
            presize = min(1024, round(stage.presize * size / before))
            sized.append(stage.model_copy(update={"presize": presize}))
        elif isinstance(stage, FitStage) and stage.size is not None:
            sized.append(stage.model_copy(update={"size": min(stage.size, size)}))
        else:
            sized.append(stage)
    return tuple(sized)
