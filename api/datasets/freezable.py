"""What a version must have before it is worth freezing."""

from collections.abc import Sequence

from api.errors import UnprocessableError
from bearloop.contract.manifest import ManifestRow
from bearloop.contract.record import ClassEntry


class NoImagesError(UnprocessableError):
    """There is nothing to freeze."""

    code = "no_images"
    title = "No images"


class OneClassError(UnprocessableError):
    """A classifier needs two classes at least."""

    code = "one_class"
    title = "One class only"


class EmptyClassError(UnprocessableError):
    """A class has no image with its label."""

    code = "empty_class"
    title = "Empty class"


class NoValidSplitError(UnprocessableError):
    """A class would have nothing to train or nothing to validate on."""

    code = "no_valid_split"
    title = "No valid split"


def check_some(rows: Sequence[ManifestRow]) -> None:
    """Refuse a version without images."""
    if not rows:
        raise NoImagesError(
            "the dataset has no image that is not removed",
            field="images",
            value=0,
            way_out="import some (POST …/imports), or restore removed ones",
        )


def check_classes(classes: Sequence[ClassEntry], rows: Sequence[ManifestRow]) -> None:
    """Refuse one class only, and classes that no image has; names the class."""
    used = {row.label for row in rows}
    for entry in classes:
        if entry.id not in used:
            raise EmptyClassError(
                f"no image has the class {entry.name!r}",
                field="class",
                value=entry.name,
                way_out="import images of it, settle its conflicts, or merge it into another "
                "class (POST …/classes/{id}/merge)",
            )
    if len(classes) < 2:
        only = classes[0].name if classes else None
        raise OneClassError(
            f"the dataset has one class only: {only!r}" if only else "the dataset has no class",
            field="class",
            value=only,
            way_out="import images of a second class, e.g. of what is not the first one",
        )


def check_splits(classes: Sequence[ClassEntry], rows: Sequence[ManifestRow]) -> None:
    """Refuse a class that has no training or no validation image; names the class."""
    there = {(row.label, row.split) for row in rows}
    for entry in classes:
        for split in ("train", "valid"):
            if (entry.id, split) not in there:
                raise _no_split(entry, split, count=sum(row.label == entry.id for row in rows))


def _no_split(entry: ClassEntry, split: str, *, count: int) -> NoValidSplitError:
    return NoValidSplitError(
        f"the class {entry.name!r} has no {split} image among its {count}",
        field="class",
        value=entry.name,
        way_out=f"import more images of it, to a {split}/ folder if the source gives the splits, "
        "or without split folders and with a valid_share above 0",
    )
