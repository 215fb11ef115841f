"""What the paths below a dataset name."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.dataset import UnknownDatasetError, find_dataset
from api.errors import NotFoundError
from api.tables import Dataset, DatasetImage, Version

__all__ = [
    "UnknownDatasetError",
    "UnknownImageError",
    "UnknownVersionError",
    "find_dataset",
    "find_image",
    "find_version",
]


class UnknownImageError(NotFoundError):
    """The dataset has no image of this sha256."""

    code = "unknown_image"
    title = "Unknown image"


class UnknownVersionError(NotFoundError):
    """The dataset has no version of this number."""

    code = "unknown_version"
    title = "Unknown version"


def find_image(session: Session, dataset: Dataset, sha256: str) -> DatasetImage:
    """Return the image's current state in the dataset; raises UnknownImageError."""
    found = session.get(DatasetImage, (dataset.id, sha256))
    if found is None:
        raise UnknownImageError(
            f"the dataset {dataset.name} has no image {sha256!r}",
            field="sha",
            value=sha256,
            way_out="images are named by their whole sha256; GET …/images lists them",
        )
    return found


def find_version(session: Session, dataset: Dataset, number: int) -> Version:
    """Return the dataset's version of this number; raises UnknownVersionError."""
    found = session.scalar(
        select(Version).where(Version.dataset_id == dataset.id, Version.number == number)
    )
    if found is None:
        way_out = (
            f"versions 1 to {dataset.versions} exist"
            if dataset.versions
            else "none is frozen yet: POST …/versions makes the first"
        )
        raise UnknownVersionError(
            f"the dataset {dataset.name} has no version {number}",
            field="version",
            value=number,
            way_out=way_out,
        )
    return found
