"""What a run may change of its recipe; pure."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.runs.rates import with_rate, with_rates_found
from api.runs.recipe_faults import unchangeable
from bearloop.contract.models import with_own_statistics, with_statistics_changed
from bearloop.contract.preprocess import Resize
from bearloop.contract.recipes import (
    AnyAugment,
    Augment,
    CacheStage,
    EarlyStopping,
    EvaluateStage,
    FitStage,
    LrFindStage,
    Precision,
    Rate,
    Recipe,
    Stage,
    TrainOn,
)


class Changes(BaseModel):
    """What a run changes of its recipe; what is absent, or null, stays as the recipe has it.

    But for `early_stopping`, which null switches off.
    """

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
        "it, as long as it is no larger; what a later stage does at this size too is left out.",
    )
    batch_size: int | None = Field(
        default=None, ge=2, le=4096, description="Stages with one of their own keep it."
    )
    lr: Rate | Literal["auto"] | None = Field(
        default=None,
        description="Highest rate of the first fit stage's head. What is in proportion to it "
        "follows: numbers a number, multiples those of the same lr-find; other rates stay. `auto`: "
        "an lr-find before the first stage, and those that are there, find what are numbers.",
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
        description="Of the last fit stage. Refused with one-cycle, whose last epochs count most. "
        "null: no fit stage stops early, whatever the recipe says.",
    )
    precision: Precision | None = Field(
        default=None,
        description="Of training. auto: bf16 where the processor computes in it. fp16 needs a GPU.",
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


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """Return the recipe with a run's changes; the presize follows the size.

    Pixels are normalised as the weights expect it, unless the recipe says how.
    """
    recipe = with_own_statistics(recipe)
    given = _given(changes, OF_RECIPE)
    stages = recipe.stages
    given["preprocess"] = recipe.preprocess.model_copy(update=_given(changes, OF_PREPROCESS))
    if changes.size is not None:
        stages = _with_sizes(stages, changes.size, before=recipe.preprocess.size)
    stages = _with_fits(stages, changes)
    if changes.augment is not None:
        given["augment"] = _with_fields(recipe.augment, changes.augment)
    stages = _with_views(stages, changes)
    if changes.lr == "auto":
        stages = with_rates_found(stages)
    elif changes.lr is not None:
        stages = with_rate(stages, changes.lr)
    steps = [stage.model_dump() for stage in stages]
    body = {**dict(recipe), **given, "stages": steps}
    try:
        whole = Recipe.model_validate(body)
    except ValidationError as error:
        raise unchangeable(recipe.name, error, given=body) from error
    return with_statistics_changed(whole, before=recipe)


def _given(changes: Changes, names: Sequence[str]) -> dict[str, object]:
    values = {name: getattr(changes, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _with_fields(before: Augment, changes: Augment) -> dict[str, object]:
    """Lay the fields that were given over the recipe's; a preset gives them all."""
    return {**dict(before), **{name: getattr(changes, name) for name in changes.model_fields_set}}


def _with_views(stages: tuple[Stage, ...], changes: Changes) -> tuple[Stage, ...]:
    given = _given(changes, OF_EVALUATE)
    return tuple(
        stage.model_copy(update=given) if isinstance(stage, EvaluateStage) else stage
        for stage in stages
    )


def _with_fits(stages: tuple[Stage, ...], changes: Changes) -> tuple[Stage, ...]:
    """Change every fit stage, and the last one's epochs and when it may stop; null: none may."""
    fits = [index for index, stage in enumerate(stages) if isinstance(stage, FitStage)]
    of_all, of_last = _given(changes, OF_FITS), _given(changes, OF_LAST)
    if "early_stopping" in changes.model_fields_set and changes.early_stopping is None:
        of_all["early_stopping"] = None
    return tuple(
        stage.model_copy(update={**of_all, **(of_last if index == fits[-1] else {})})
        if isinstance(stage, FitStage)
        else stage
        for index, stage in enumerate(stages)
    )


def _with_sizes(stages: tuple[Stage, ...], size: int, *, before: int) -> tuple[Stage, ...]:
    """Let the presize keep its proportion; no stage before the last trains larger than that."""
    if size == before:
        return stages
    sized: list[Stage] = []
    for place, stage in enumerate(stages):
        if isinstance(stage, CacheStage):
            presize = min(1024, round(stage.presize * size / before))
            sized.append(stage.model_copy(update={"presize": presize}))
        elif not isinstance(stage, FitStage) or stage.size is None or stage.size < size:
            sized.append(stage)
        elif not any(_differ_in_size(stage, later) for later in stages[place + 1 :]):
            sized.append(stage.model_copy(update={"size": size}))
        elif isinstance(sized[-1], LrFindStage) and isinstance(stages[place + 1], LrFindStage):
            # The search goes with the stage that it was for.
            sized.pop()
    return tuple(sized)


def _differ_in_size(stage: FitStage, later: Stage) -> bool:
    """Tell whether a later stage does the same, at another size and for its own epochs."""
    at_size = {"name": "", "size": None, "epochs": 1}
    return isinstance(later, FitStage) and stage.model_copy(update=at_size) == later.model_copy(
        update=at_size
    )
