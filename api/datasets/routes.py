"""Classes, labels, splits and frozen versions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from api.access import Trainer, UnauthorisedError, Viewer
from api.classes import UnknownClassError
from api.database import Db
from api.datasets import datasets, find, freezable, images, version_views
from api.datasets import profile as profiles
from api.datasets.cached import immutable
from api.datasets.schemas import (
    AskedImages,
    Because,
    ClassId,
    ClassList,
    DatasetName,
    DatasetView,
    DiffView,
    EventView,
    ImageView,
    MergeInto,
    NewDataset,
    NewLabel,
    NewName,
    Profile,
    Sha,
    VersionNumber,
    VersionView,
)
from api.errors import responses
from api.idempotency import IdempotentRoute
from api.paging import CursorText, Limit, Page
from api.stores import ProjectStore
from api.tables import Dataset, DatasetImage
from bearloop.contract.record import ClassEntry

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["datasets"],
    responses=responses(UnauthorisedError, find.UnknownDatasetError),
)
DATASETS = "/projects/{project}/datasets"
DATASET = DATASETS + "/{dataset}"
IMAGE = DATASET + "/images/{sha}"
VERSION = DATASET + "/versions/{version}"
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}}, "description": "The bytes; cached for ever."}
}
PARQUET: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/vnd.apache.parquet": {}}, "description": "Parquet."}
}


def named_dataset(caller: Viewer, session: Db, dataset: DatasetName) -> Dataset:
    """Find the dataset that the path names."""
    return find.find_dataset(session, caller, dataset)


NamedDataset = Annotated[Dataset, Depends(named_dataset, scope="function")]


def named_image(session: Db, dataset: NamedDataset, sha: Sha) -> DatasetImage:
    """Find the image that the path names."""
    return find.find_image(session, dataset, sha)


NamedImage = Annotated[DatasetImage, Depends(named_image, scope="function")]


@router.post(DATASETS, status_code=201, responses=responses(datasets.DatasetExistsError))
def create_dataset(caller: Trainer, session: Db, asked: NewDataset) -> DatasetView:
    """Make an empty dataset; its shares and its seed hold for ever."""
    return datasets.create_dataset(session, caller, asked)


@router.get(DATASETS)
def list_datasets(
    caller: Viewer, session: Db, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[DatasetView]:
    """List the project's datasets by name."""
    return datasets.list_datasets(session, caller, cursor=cursor, limit=limit)


@router.get(DATASET)
def show_dataset(caller: Viewer, session: Db, dataset: DatasetName) -> DatasetView:
    """Show a dataset."""
    return datasets.show_dataset(session, caller, dataset)


@router.get(DATASET + "/profile")
def show_profile(caller: Viewer, session: Db, dataset: DatasetName) -> Profile:
    """Count what the dataset holds, by class and split, size and format."""
    return profiles.profile(session, caller, dataset)


@router.get(DATASET + "/classes")
def list_classes(caller: Viewer, session: Db, dataset: DatasetName) -> ClassList:
    """List the classes in their order, which only grows."""
    return datasets.list_classes(session, caller, dataset)


@router.patch(
    DATASET + "/classes/{class_id}",
    responses=responses(UnknownClassError, datasets.ClassExistsError),
)
def rename_class(
    caller: Trainer, session: Db, dataset: DatasetName, *, class_id: ClassId, asked: NewName
) -> ClassEntry:
    """Rename a class; its id stays, and versions that are frozen keep the old name."""
    return datasets.rename_class(session, caller, dataset, class_id=class_id, name=asked.name)


@router.post(
    DATASET + "/classes/{class_id}/merge",
    responses=responses(UnknownClassError, datasets.ClassMergedError),
)
def merge_class(
    caller: Trainer, session: Db, dataset: DatasetName, *, class_id: ClassId, asked: MergeInto
) -> ClassList:
    """Make a class part of another one, and list those that remain."""
    return datasets.merge_class(session, caller, dataset, class_id=class_id, into=asked.into)


@router.get(DATASET + "/images", responses=responses(UnknownClassError))
def list_images(
    caller: Viewer, session: Db, dataset: DatasetName, *, asked: AskedImages
) -> Page[ImageView]:
    """List the images that match, by sha256."""
    return images.list_images(session, caller, dataset, asked=asked)


@router.get(IMAGE, responses=responses(find.UnknownImageError))
def show_image(caller: Viewer, session: Db, dataset: DatasetName, *, sha: Sha) -> ImageView:
    """Show an image and its current label."""
    return images.show_image(session, caller, dataset, sha256=sha)


@router.get(
    IMAGE + "/content",
    response_class=Response,
    responses={**BYTES, **responses(find.UnknownImageError, images.MissingBytesError)},
)
def show_content(
    session: Db, found: NamedImage, store: ProjectStore, *, request: Request
) -> Response:
    """Give the original bytes, as they were imported."""
    data, media = images.read_content(session, found, store)
    return immutable(request, data, media_type=media, tag=found.sha256)


@router.get(
    IMAGE + "/thumbnail",
    response_class=Response,
    responses={**BYTES, **responses(find.UnknownImageError, images.MissingBytesError)},
)
def show_thumbnail(found: NamedImage, store: ProjectStore, *, request: Request) -> Response:
    """Give the upright JPEG thumbnail."""
    data, media = images.read_thumbnail(found, store)
    return immutable(request, data, media_type=media, tag=f"thumbnail-{found.sha256}")


@router.get(IMAGE + "/history", responses=responses(find.UnknownImageError))
def list_history(
    session: Db,
    found: NamedImage,
    *,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Page[EventView]:
    """List who or what said what of the image, the oldest first."""
    return images.list_history(session, found, cursor=cursor, limit=limit)


@router.post(
    IMAGE + "/label",
    responses=responses(find.UnknownImageError, UnknownClassError),
)
def label_image(
    caller: Trainer, session: Db, dataset: DatasetName, *, sha: Sha, asked: NewLabel
) -> ImageView:
    """Decide the image's class; it stands, whatever sources claim later."""
    return images.label_image(session, caller, dataset, sha256=sha, asked=asked)


@router.post(IMAGE + "/remove", responses=responses(find.UnknownImageError))
def remove_image(
    caller: Trainer, session: Db, dataset: DatasetName, *, sha: Sha, asked: Because | None = None
) -> ImageView:
    """Leave the image out of the next versions; nothing is deleted, and restoring undoes it."""
    reason = asked.reason if asked else None
    return images.remove_image(session, caller, dataset, sha256=sha, reason=reason)


@router.post(IMAGE + "/restore", responses=responses(find.UnknownImageError))
def restore_image(
    caller: Trainer, session: Db, dataset: DatasetName, *, sha: Sha, asked: Because | None = None
) -> ImageView:
    """Take a removed image in again, with the label and the split that it had."""
    reason = asked.reason if asked else None
    return images.restore_image(session, caller, dataset, sha256=sha, reason=reason)


@router.post(
    DATASET + "/versions",
    status_code=201,
    responses={
        200: {"model": VersionView, "description": "This content is frozen already."},
        **responses(
            freezable.NoImagesError,
            freezable.OneClassError,
            freezable.EmptyClassError,
            freezable.NoValidSplitError,
        ),
    },
)
def freeze(
    caller: Trainer, session: Db, dataset: DatasetName, *, store: ProjectStore, response: Response
) -> VersionView:
    """Freeze everything current; images without a split get theirs now, for good."""
    view, new = version_views.freeze_now(session, caller, dataset, store=store)
    response.status_code = 201 if new else 200
    response.headers["Location"] = version_views.version_path(caller, view)
    return view


@router.get(DATASET + "/versions")
def list_versions(
    caller: Viewer,
    session: Db,
    dataset: DatasetName,
    *,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Page[VersionView]:
    """List the frozen versions, the newest first."""
    return version_views.list_versions(session, caller, dataset, cursor=cursor, limit=limit)


@router.get(VERSION, responses=responses(find.UnknownVersionError))
def show_version(
    caller: Viewer, session: Db, dataset: DatasetName, *, version: VersionNumber
) -> VersionView:
    """Show a version: its digest, classes and counts."""
    return version_views.show_version(session, caller, dataset, number=version)


@router.get(
    VERSION + "/manifest",
    response_class=Response,
    responses={**PARQUET, **responses(find.UnknownVersionError)},
)
def show_manifest(
    session: Db,
    dataset: NamedDataset,
    *,
    version: VersionNumber,
    store: ProjectStore,
    request: Request,
) -> Response:
    """Give the version's rows as a Parquet file, sorted by sha256."""
    data, digest = version_views.read_manifest_file(session, dataset, number=version, store=store)
    return immutable(request, data, media_type="application/vnd.apache.parquet", tag=digest)


@router.get(VERSION + "/diff", responses=responses(find.UnknownVersionError))
def compare_versions(
    session: Db,
    dataset: NamedDataset,
    *,
    version: VersionNumber,
    against: Annotated[int, Query(ge=1, le=2**31, description="Number of the older version.")],
    store: ProjectStore,
    limit: Limit = 1000,
) -> DiffView:
    """List what this version has added, removed, relabelled and moved."""
    numbers = (version, against)
    return version_views.compare_versions(
        session, dataset, numbers=numbers, store=store, limit=limit
    )
