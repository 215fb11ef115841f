"""What makes a recipe whole: all that is wrong with one that no trainer could follow; pure."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from pydantic import ValidationError

from api.refused_fields import place_of
from bearloop.contract.clashes import CLASH
from bearloop.contract.models import find_misfits
from bearloop.contract.recipes import CacheStage, FeaturesStage, FitStage, LrFindStage, Recipe

NAMED_WEIGHTS: Final = ("imagenet", "none")
WEIGHT_FILES: Final = (".pth", ".pth.xz", ".safetensors")
TAKEN: Final = re.compile("features|lr-find .*")
"""Names that what a run cost uses for itself, beside its fit stages'."""


class BrokenRecipeError(ValueError):
    """A recipe that no trainer could follow: names the field, its value and the way out."""

    def __init__(self, detail: str, *, field: str, value: object, way_out: str) -> None:
        super().__init__(detail)
        self.field = field
        self.value = value
        self.way_out = way_out
        self.others: tuple[BrokenRecipeError, ...] = ()
        """What else is wrong with the recipe."""


def check_whole(recipe: Recipe) -> None:
    """Refuse a recipe that no trainer could follow; the error holds all that is wrong with it."""
    found = faults(recipe)
    if found:
        found[0].others = tuple(found[1:])
        raise found[0]


def faults(recipe: Recipe) -> list[BrokenRecipeError]:
    """Return all that is wrong with a recipe; of wrong stages only what they are called."""
    found = list(_shape_faults(recipe))
    checks = [_name_faults, _model_faults, _weights_faults]
    if not found:
        checks = [
            *(_rate_faults, _body_rate_faults, _size_faults, _snapshot_faults),
            *(_feature_faults, _stopping_faults),
            *checks,
        ]
    return [*found, *(fault for check in checks for fault in check(recipe))]


def stored_recipe(body: object) -> Recipe:
    """Read a recipe that was stored; raises BrokenRecipeError when today's rules refuse it."""
    try:
        return Recipe.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise BrokenRecipeError(
            f"the stored recipe is of another version of bearloop: {first['msg']}",
            field=_field(first, body),
            value=str(first.get("input"))[:100],
            way_out="store it anew under another name",
        ) from error


def unchangeable(name: str, error: ValidationError, *, given: object) -> BrokenRecipeError:
    """Say in the words of recipes all that pydantic refuses of one that a run changed."""
    first, *others = [_refused(name, entry, given=given) for entry in error.errors()]
    first.others = tuple(others)
    return first


def _refused(name: str, entry: Mapping[str, Any], *, given: object) -> BrokenRecipeError:
    told = {"detail": entry["msg"], "way_out": "give numbers of a likelier size"}
    if entry["type"] == CLASH:
        told = entry["ctx"]
    return BrokenRecipeError(
        f"the recipe {name} cannot be changed so: {told['detail']}",
        field=_field(entry, given),
        value=str(entry.get("input"))[:100],
        way_out=told["way_out"],
    )


def _field(entry: Mapping[str, Any], given: object) -> str:
    return ".".join(str(part) for part in ("recipe", *place_of(entry, given)))


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
    """Want each fit stage to have a name of its own, in what the run cost too."""
    names = [stage.name for stage in recipe.stages if isinstance(stage, FitStage)]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield BrokenRecipeError(
            f"two fit stages are called {twice!r}",
            field="recipe.stages",
            value=twice,
            way_out="give each fit stage a name of its own",
        )
    for place, stage in enumerate(recipe.stages):
        if isinstance(stage, FitStage) and TAKEN.fullmatch(stage.name):
            yield BrokenRecipeError(
                f"{stage.name!r} is what the cost of a run calls a stage of another kind",
                field=f"recipe.stages.{place}.name",
                value=stage.name,
                way_out="give the fit stage another name",
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
    for lacking in recipe.without_rate():
        yield BrokenRecipeError(
            f"the stage {lacking.name!r} takes the rate that an lr-find finds, and none is there",
            field=f"recipe.stages.{recipe.stages.index(lacking)}.lr",
            value="auto",
            way_out="put an lr-find stage before it, or give a number",
        )


def _body_rate_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find rates of a body that is not trained."""
    for place, stage in enumerate(recipe.stages):
        if not isinstance(stage, FitStage) or not stage.head_only:
            continue
        for field in ("lr_body", "lr_body_times"):
            if (value := getattr(stage, field)) is not None:
                yield BrokenRecipeError(
                    f"the stage {stage.name!r} trains the head alone (frozen_to "
                    f"{stage.frozen_to}): a rate of the body changes nothing",
                    field=f"recipe.stages.{place}.{field}",
                    value=value,
                    way_out=f"leave {field} out, or give frozen_to 0 or 1",
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
    """Find stages that wait for valid images to get no better where none is held out."""
    for stage in recipe.stopped_by_nothing():
        yield BrokenRecipeError(
            f"the stage {stage.name!r} stops early, and with train_on all nothing is held out to "
            "stop by",
            field=f"recipe.stages.{recipe.stages.index(stage)}.early_stopping",
            value=stage.early_stopping and stage.early_stopping.model_dump(),
            way_out="give early_stopping null and as many epochs as the run with its splits kept "
            "took, or train_on train",
        )


def _model_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find what the recipe's model cannot do."""
    for misfit in find_misfits(recipe):
        yield BrokenRecipeError(
            misfit.detail,
            field=f"recipe.{misfit.field}",
            value=misfit.value,
            way_out=misfit.way_out,
        )


def _weights_faults(recipe: Recipe) -> Iterator[BrokenRecipeError]:
    """Find weights that no project could name; whether they are there is asked for each run."""
    weights = recipe.weights
    if weights in NAMED_WEIGHTS:
        return
    what = None
    if not weights.startswith(("file:", "s3:")):
        what = "no such kind of weights"
    elif not weights.endswith(WEIGHT_FILES):
        what = f"expected a name that ends in {', '.join(WEIGHT_FILES)}"
    if what is not None:
        yield BrokenRecipeError(
            f"weights {weights!r}: {what}",
            field="recipe.weights",
            value=weights,
            way_out="give the file: or s3: address of torchvision's state dict, `imagenet` where "
            "jobs can download, or `none` to train from scratch",
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
        fed = [fit for _, fit in recipe.fits() if recipe.feeding(fit) is stage]
        epochs = max((fit.epochs for fit in fed), default=stage.views)
        if stage.views > epochs:
            yield BrokenRecipeError(
                f"of {stage.views} views the stages behind see {epochs}: each of their epochs "
                "takes one, and each stage begins at the first",
                field=f"recipe.stages.{place}.views",
                value=stage.views,
                way_out=f"give views {epochs} or less, or a stage behind it epochs {stage.views}",
            )
        if recipe.weights == "none":
            yield BrokenRecipeError(
                "the features of a body without pretrained weights tell nothing",
                field="recipe.weights",
                value="none",
                way_out="take pretrained weights, or leave the features stage out",
            )
