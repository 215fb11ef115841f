"""A dataset's images: listed, shown, labelled by a person, removed and restored."""

from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.classes import find_class
from api.dataset import find_dataset, lock_labels
from api.datasets.find import find_image
from api.datasets.schemas import EventView, ImageQuery, ImageView, NewLabel, Split, State
from api.errors import NotFoundError
from api.label_state import Kind
from api.labels import NewEvent, append_events
from api.paging import Page, after_number, after_text, make_page
from api.tables import Class, Dataset, DatasetImage, Image, LabelEvent
from bearloop.store import MissingObjectError, Store, image_key, thumbnail_key

MEDIA_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"} | {
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "MPO": "image/jpeg",
}
ACTIONS: Final[Mapping[Kind, audit.Action]] = {
    "label": "image.label",
    "remove": "image.remove",
    "restore": "image.restore",
}
"""What the record calls a person's label events."""

Row = tuple[DatasetImage, Image, str | None]


class MissingBytesError(NotFoundError):
    """The store has lost what the tables name."""

    code = "missing_bytes"
    title = "Missing bytes"


def list_images(
    session: Session, caller: Caller, dataset: str, *, asked: ImageQuery
) -> Page[ImageView]:
    """List the images that match, by sha256."""
    found = find_dataset(session, caller, dataset)
    query = _filtered(session, _rows(found), dataset=found, asked=asked)
    after = after_text(asked.cursor)
    if after is not None:
        query = query.where(DatasetImage.sha256 > after)
    page = query.order_by(DatasetImage.sha256).limit(asked.limit + 1)
    rows = session.execute(page).all()
    return make_page(rows, limit=asked.limit, key=lambda row: [row[0].sha256], item=_view)


def show_image(session: Session, caller: Caller, dataset: str, *, sha256: str) -> ImageView:
    """Show one image and its current label."""
    found = find_dataset(session, caller, dataset)
    find_image(session, found, sha256)
    return _shown(session, found, sha256)


def read_content(session: Session, found: DatasetImage, store: Store) -> tuple[bytes, str]:
    """Return the original bytes and their media type."""
    dataset = session.get_one(Dataset, found.dataset_id)
    image = session.get_one(Image, (dataset.project_id, found.sha256))
    media_type = MEDIA_TYPES.get(image.format, "application/octet-stream")
    return _read(store, image_key(found.sha256)), media_type


def read_thumbnail(found: DatasetImage, store: Store) -> tuple[bytes, str]:
    """Return the JPEG thumbnail's bytes and media type."""
    return _read(store, thumbnail_key(found.sha256)), "image/jpeg"


def list_history(
    session: Session, found: DatasetImage, *, cursor: str | None, limit: int
) -> Page[EventView]:
    """List the image's label events, the oldest first."""
    query = (
        select(LabelEvent, Class.name)
        .join(Class, Class.id == LabelEvent.class_id, isouter=True)
        .where(LabelEvent.dataset_id == found.dataset_id, LabelEvent.sha256 == found.sha256)
        .order_by(LabelEvent.id)
        .limit(limit + 1)
    )
    after = after_number(cursor)
    if after is not None:
        query = query.where(LabelEvent.id > after)
    rows = session.execute(query).all()
    return make_page(rows, limit=limit, key=lambda row: [row[0].id], item=_event_view)


def label_image(
    session: Session, caller: Caller, dataset: str, *, sha256: str, asked: NewLabel
) -> ImageView:
    """Decide an image's class; a conflict is settled so."""
    found = find_dataset(session, caller, dataset)
    find_image(session, found, sha256)
    chosen = find_class(session, found.id, asked.class_name)
    event = NewEvent(sha256, "label", chosen.id, asked.reason)
    return _append(session, caller, found, event=event)


def remove_image(
    session: Session, caller: Caller, dataset: str, *, sha256: str, reason: str | None
) -> ImageView:
    """Take an image out of what is frozen next; its bytes and its label stay."""
    return _switch(session, caller, dataset, event=NewEvent(sha256, "remove", reason=reason))


def restore_image(
    session: Session, caller: Caller, dataset: str, *, sha256: str, reason: str | None
) -> ImageView:
    """Take a removed image in again, with the label and the split that it had."""
    return _switch(session, caller, dataset, event=NewEvent(sha256, "restore", reason=reason))


def _switch(session: Session, caller: Caller, dataset: str, *, event: NewEvent) -> ImageView:
    found = find_dataset(session, caller, dataset)
    lock_labels(session, found.id)
    image = find_image(session, found, event.sha256)
    if image.removed == (event.kind == "remove"):
        return _shown(session, found, event.sha256)  # it is so already
    return _append(session, caller, found, event=event)


def _append(session: Session, caller: Caller, dataset: Dataset, *, event: NewEvent) -> ImageView:
    append_events(session, dataset.id, [event], actor=caller.name, origin="api")
    target = f"/v1/projects/{caller.project}/datasets/{dataset.name}/images/{event.sha256}"
    audit.record(session, caller, ACTIONS[event.kind], target=target, class_id=event.class_id)
    return _shown(session, dataset, event.sha256)


def _shown(session: Session, dataset: Dataset, sha256: str) -> ImageView:
    query = _rows(dataset).where(DatasetImage.sha256 == sha256)
    return _view(session.execute(query).one())


def _rows(dataset: Dataset) -> Select[DatasetImage, Image, str | None]:
    rows = (
        select(DatasetImage, Image, Class.name)
        .join(Image, Image.sha256 == DatasetImage.sha256)
        .join(Class, Class.id == DatasetImage.class_id, isouter=True)
        .where(DatasetImage.dataset_id == dataset.id, Image.project_id == dataset.project_id)
    )
    return cast("Select[DatasetImage, Image, str | None]", rows)


def _filtered(
    session: Session,
    query: Select[DatasetImage, Image, str | None],
    *,
    dataset: Dataset,
    asked: ImageQuery,
) -> Select[DatasetImage, Image, str | None]:
    if asked.label is not None:
        wanted = find_class(session, dataset.id, asked.label)
        query = query.where(DatasetImage.class_id == wanted.id)
    exact: dict[Any, object] = {
        DatasetImage.state: asked.state,
        DatasetImage.split: asked.split,
        DatasetImage.removed: asked.removed,
    }
    for column, value in exact.items():
        if value is not None:
            query = query.where(column == value)
    return query


def _view(row: Row) -> ImageView:
    current, image, class_name = row
    return ImageView(
        sha256=current.sha256,
        state=cast("State", current.state),
        class_id=current.class_id,
        class_name=class_name,
        removed=current.removed,
        split=cast("Split | None", current.split),
        group=current.group_id,
        bytes=image.bytes,
        width=image.width,
        height=image.height,
        format=image.format,
    )


def _event_view(row: tuple[LabelEvent, str | None]) -> EventView:
    event, class_name = row
    return EventView(
        id=event.id,
        kind=cast("Kind", event.kind),
        class_id=event.class_id,
        class_name=class_name,
        actor=event.actor,
        origin=event.origin,
        reason=event.reason,
        at=event.at,
    )


def _read(store: Store, key: str) -> bytes:
    try:
        return store.get(key)
    except MissingObjectError as error:
        raise MissingBytesError(
            f"the store has no {key}",
            field="sha",
            value=key.rpartition("/")[2],
            way_out="import the image again, or restore the store from its backup",
        ) from error
