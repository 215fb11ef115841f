"""What the routes of datasets, classes, images and versions take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bearloop.contract.record import ClassEntry

DatasetName = Annotated[str, Path(alias="dataset", description="The dataset's name.")]
Sha = Annotated[
    str, Path(alias="sha", pattern=r"^[0-9a-f]{64}$", description="The image's sha256 (hex).")
]
VersionNumber = Annotated[
    int, Path(alias="version", ge=1, le=2**31, description="The version's number.")
]
ClassId = Annotated[int, Path(alias="class_id", ge=1, le=2**53, description="The class's id.")]
Split = Literal["train", "valid", "test"]
State = Literal["labelled", "conflict"]
ClassName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
Reason = Annotated[str, Field(max_length=1000)]


class NewDataset(BaseModel):
    """A dataset to make; shares and seed hold for ever, as nobody moves between splits."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", examples=["bears"])
    valid_share: float = Field(default=0.2, ge=0, lt=1)
    """Of each class; 0 when the sources give the splits."""
    test_share: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Of the hash that orders images for the split."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nothing to train on")
        return self


class DatasetView(BaseModel):
    """A dataset."""

    name: str
    valid_share: float
    test_share: float
    seed: int
    imports: int
    """Highest number of an import."""
    versions: int
    """Highest number of a version."""
    created_at: datetime
    created_by: str


class ClassList(BaseModel):
    """All classes in their order."""

    items: list[ClassEntry]


class NewName(BaseModel):
    """A class's new name."""

    model_config = ConfigDict(extra="forbid")
    name: ClassName


class MergeInto(BaseModel):
    """The class that another one becomes part of."""

    model_config = ConfigDict(extra="forbid")
    into: int
    """Its id."""


class ImageView(BaseModel):
    """An image and its current label in the dataset."""

    sha256: str
    state: State
    class_id: int | None
    """NULL for a conflict."""
    class_name: str | None
    removed: bool
    split: Split | None
    """NULL until a source or the first freeze gives one."""
    group: str
    bytes: int
    width: int
    height: int
    format: str


class ImageFilter(BaseModel):
    """Which images to list."""

    model_config = ConfigDict(extra="forbid")
    label: str | None = Field(default=None, description="Name of a class.")
    state: State | None = Field(default=None, description="`conflict`: contradicting claims.")
    split: Split | None = None
    removed: bool | None = Field(default=None, description="Absent: both kinds.")


class ImageQuery(ImageFilter):
    """Which page of which images."""

    cursor: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1000, description="Most items of this page.")


AskedImages = Annotated[ImageQuery, Query()]


class NewLabel(BaseModel):
    """A person's decision on an image; it stands, whatever sources claim later."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    class_name: ClassName = Field(alias="class")
    reason: Reason | None = None


class Because(BaseModel):
    """Why an image is removed or restored."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason | None = None


class EventView(BaseModel):
    """Who or what said what of an image, when and why."""

    id: int
    kind: Literal["claim", "label", "remove", "restore"]
    class_id: int | None
    class_name: str | None
    actor: str
    origin: str
    reason: str | None
    at: datetime


class VersionView(BaseModel):
    """A frozen version."""

    number: int
    dataset: str
    digest: str
    parent: int | None
    """Number of the version that it came from."""
    classes: list[ClassEntry]
    counts: dict[str, Any]
    """Images per split and class name, conflicts, and all images."""
    created_at: datetime
    created_by: str


class RelabelledView(BaseModel):
    """An image whose label differs between two versions."""

    sha256: str
    old: int | None
    """Class id; NULL for a conflict."""
    new: int | None


class MovedView(BaseModel):
    """An image whose split differs between two versions."""

    sha256: str
    old: Split
    new: Split


class DiffView(BaseModel):
    """What changed from the version `against` to this one; each list is cut after `limit`."""

    version: int
    against: int
    counts: dict[str, int]
    """Whole number of added, removed, relabelled and moved images."""
    added: list[str]
    removed: list[str]
    relabelled: list[RelabelledView]
    moved: list[MovedView]


class ClassProfile(BaseModel):
    """Images of one class that are not removed, by split."""

    class_id: int
    name: str
    images: int
    train: int
    valid: int
    test: int
    unassigned: int
    """Without a split until the next freeze."""


class Spread(BaseModel):
    """Of a size in pixels."""

    min: int
    median: int
    max: int


class Bucket(BaseModel):
    """Images whose longer side has at most so many pixels, and more than the bucket before."""

    up_to: int | None
    """NULL for the last: anything larger."""
    images: int


class Profile(BaseModel):
    """What a dataset holds, at a glance."""

    images: int
    """Not removed."""
    removed: int
    conflicts: int
    bytes: int
    """Of the images that are not removed."""
    classes: list[ClassProfile]
    width: Spread | None
    """NULL without images."""
    height: Spread | None
    longer_side: list[Bucket]
    formats: dict[str, int]
