"""Datasets made and listed; their classes named, renamed and merged."""

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.classes import classes_of, find_class_by_id
from api.dataset import find_dataset, lock_labels
from api.datasets.schemas import ClassList, DatasetView, NewDataset
from api.errors import ConflictError
from api.labels import derive_states
from api.paging import Page, after_text, make_page
from api.tables import Class, Dataset, LabelEvent
from bearloop.contract.record import ClassEntry


class DatasetExistsError(ConflictError):
    """The project has a dataset of this name."""

    code = "dataset_exists"
    title = "Dataset exists"


class ClassExistsError(ConflictError):
    """The dataset has a class of this name."""

    code = "class_exists"
    title = "Class exists"


class ClassMergedError(ConflictError):
    """The class is part of another one, or would become part of itself."""

    code = "class_merged"
    title = "Class merged"


def create_dataset(session: Session, caller: Caller, asked: NewDataset) -> DatasetView:
    """Make an empty dataset."""
    made = session.scalar(
        insert(Dataset)
        .values(project_id=caller.project_id, created_by=caller.name, **asked.model_dump())
        .on_conflict_do_nothing()
        .returning(Dataset)
    )
    if made is None:
        raise DatasetExistsError(
            f"the project {caller.project} has a dataset {asked.name!r} already",
            field="name",
            value=asked.name,
            way_out="take another name, or import into the one that is there",
        )
    audit.record(session, caller, "dataset.create", target=_path(caller, made))
    return _view(made)


def list_datasets(
    session: Session, caller: Caller, *, cursor: str | None, limit: int
) -> Page[DatasetView]:
    """List the project's datasets by name."""
    query = (
        select(Dataset)
        .where(Dataset.project_id == caller.project_id)
        .order_by(Dataset.name)
        .limit(limit + 1)
    )
    after = after_text(cursor)
    if after is not None:
        query = query.where(Dataset.name > after)
    rows = session.scalars(query).all()
    return make_page(rows, limit=limit, key=lambda row: [row.name], item=_view)


def show_dataset(session: Session, caller: Caller, name: str) -> DatasetView:
    """Show one dataset."""
    return _view(find_dataset(session, caller, name))


def list_classes(session: Session, caller: Caller, name: str) -> ClassList:
    """List the dataset's classes in their order."""
    return ClassList(items=classes_of(session, find_dataset(session, caller, name).id))


def rename_class(
    session: Session, caller: Caller, dataset: str, *, class_id: int, name: str
) -> ClassEntry:
    """Give a class another name; versions that are frozen keep the old one."""
    found = find_dataset(session, caller, dataset)
    lock_labels(session, found.id)
    row = find_class_by_id(session, found.id, class_id)
    taken = session.scalar(
        select(Class.id).where(
            Class.dataset_id == found.id, Class.name == name, Class.id != class_id
        )
    )
    if taken is not None:
        raise ClassExistsError(
            f"the dataset {dataset} has a class {name!r} already (id {taken})",
            field="name",
            value=name,
            way_out="take another name, or merge the two classes (POST …/classes/{id}/merge)",
        )
    target = f"{_path(caller, found)}/classes/{class_id}"
    audit.record(session, caller, "class.rename", target=target, old=row.name, new=name)
    row.name = name
    return ClassEntry(id=row.id, name=row.name, position=row.position)


def merge_class(
    session: Session, caller: Caller, dataset: str, *, class_id: int, into: int
) -> ClassList:
    """Make a class part of another one; events keep the id that they were written with."""
    found = find_dataset(session, caller, dataset)
    lock_labels(session, found.id)
    row = find_class_by_id(session, found.id, class_id)
    target = find_class_by_id(session, found.id, into)
    if row.merged_into or target.merged_into or row.id == target.id:
        raise ClassMergedError(
            f"the class {row.name!r} cannot become part of {target.name!r}",
            field="into",
            value=into,
            way_out="merge a class that stands by itself into another one that does",
        )
    where = f"{_path(caller, found)}/classes/{class_id}"
    audit.record(session, caller, "class.merge", target=where, into=into)
    # Those that were merged into it before follow, so that one step always leads to the end.
    session.execute(update(Class).where(Class.merged_into == row.id).values(merged_into=target.id))
    row.merged_into = target.id
    session.flush()
    _derive_members(session, target)
    return ClassList(items=classes_of(session, found.id))


def _derive_members(session: Session, target: Class) -> None:
    parts = select(Class.id).where(Class.merged_into == target.id)
    touched = select(LabelEvent.sha256).where(
        LabelEvent.dataset_id == target.dataset_id, LabelEvent.class_id.in_(parts)
    )
    derive_states(session, target.dataset_id, session.scalars(touched.distinct()))


def _view(row: Dataset) -> DatasetView:
    return DatasetView.model_validate(row, from_attributes=True)


def _path(caller: Caller, dataset: Dataset) -> str:
    return f"/v1/projects/{caller.project}/datasets/{dataset.name}"
