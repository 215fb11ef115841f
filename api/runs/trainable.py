"""What a version and its weights must be before a run is made of them."""

from pathlib import PurePosixPath

from api.allowed_sources import check_address
from api.errors import UnprocessableError
from api.runs.recipe_faults import NAMED_WEIGHTS
from api.tables import Version
from bearloop.contract.record import ClassEntry
from bearloop.store import StoreError, open_store


class UntrainableVersionError(UnprocessableError):
    """The version has too few classes, or a class without images to train or validate on."""

    code = "untrainable_version"
    title = "Untrainable version"


class NoSuchWeightsError(UnprocessableError):
    """The weights are not there."""

    code = "no_such_weights"
    title = "No such weights"


def check_version(version: Version) -> tuple[ClassEntry, ...]:
    """Return the version's classes in order when it can be trained on; names a class at fault."""
    classes = tuple(ClassEntry.model_validate(entry) for entry in version.classes)
    if len(classes) < 2:
        raise UntrainableVersionError(
            f"version {version.number} has {len(classes)} class; a classifier needs two",
            field="version",
            value=version.number,
            way_out="import images of another class and freeze again",
        )
    for split in ("train", "valid"):
        counted = version.counts.get(split, {})
        for entry in classes:
            if not counted.get(entry.name):
                raise UntrainableVersionError(
                    f"the class {entry.name!r} has no {split} image in version {version.number}",
                    field="class",
                    value=entry.name,
                    way_out="import more images of it, or merge it into another class, and freeze "
                    "again",
                )
    return classes


def check_weights(weights: str, *, allowed: tuple[str, ...], local: bool) -> None:
    """Refuse weights that the project may not name, or that are not there."""
    if weights in NAMED_WEIGHTS:
        return
    check_address(weights, allowed=allowed, local=local, field="recipe.weights")
    # Elsewhere the folder may be mounted in the job's pod only; there the job says it.
    if (weights.startswith("s3:") or local) and not _is_there(weights):
        raise _no_such(weights, "there is no such file")


def _is_there(weights: str) -> bool:
    folder, name = weights.rsplit("/", 1)
    try:
        return open_store(folder).exists(PurePosixPath(name).name)
    except StoreError as error:
        raise _no_such(weights, str(error)) from error


def _no_such(weights: str, what: str) -> NoSuchWeightsError:
    return NoSuchWeightsError(
        f"weights {weights!r}: {what}",
        field="recipe.weights",
        value=weights,
        way_out="give the file: or s3: address of torchvision's state dict, `imagenet` where jobs "
        "can download, or `none` to train from scratch",
    )
