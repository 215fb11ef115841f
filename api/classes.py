"""A dataset's classes: ids for ever, names that may change, an order that only grows."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.dataset import lock_labels
from api.errors import NotFoundError
from api.tables import Class
from bearloop.contract.record import ClassEntry


class UnknownClassError(NotFoundError):
    """The dataset has no class of this name or id."""

    code = "unknown_class"
    title = "Unknown class"


def classes_of(session: Session, dataset_id: int) -> list[ClassEntry]:
    """Return the classes in their order, without those merged into others."""
    return [
        ClassEntry(id=row.id, name=row.name, position=row.position)
        for row in _rows(session, dataset_id)
        if row.merged_into is None
    ]


def ensure_classes(session: Session, dataset_id: int, names: Collection[str]) -> dict[str, int]:
    """Return the id of each name; new ones are appended to the order, sorted by name.

    The name of a class that was merged means the class that it was merged into.
    """
    lock_labels(session, dataset_id)
    rows = _rows(session, dataset_id)
    known = {row.name for row in rows}
    new = [
        Class(dataset_id=dataset_id, name=name, position=position)
        for position, name in enumerate(sorted(set(names) - known), start=len(rows))
    ]
    session.add_all(new)
    session.flush()
    ids = {row.name: row.merged_into or row.id for row in (*rows, *new)}
    return {name: ids[name] for name in names}


def find_class(session: Session, dataset_id: int, name: str) -> Class:
    """Return the class of this name; raises UnknownClassError, which names those there are."""
    rows = _rows(session, dataset_id)
    for row in rows:
        if row.name == name and row.merged_into is None:
            return row
    raise _unknown(name, rows)


def find_class_by_id(session: Session, dataset_id: int, class_id: int) -> Class:
    """Return the class of this id, a merged one too; raises UnknownClassError."""
    row = session.get(Class, class_id)
    if row is None or row.dataset_id != dataset_id:
        raise _unknown(class_id, _rows(session, dataset_id))
    return row


def _rows(session: Session, dataset_id: int) -> Sequence[Class]:
    ordered = select(Class).where(Class.dataset_id == dataset_id).order_by(Class.position)
    return session.scalars(ordered).all()


def _unknown(value: str | int, rows: Sequence[Class]) -> UnknownClassError:
    names = ", ".join(row.name for row in rows if row.merged_into is None)
    return UnknownClassError(
        f"the dataset has no class {value!r}",
        field="class",
        value=value,
        way_out=f"name one of: {names}" if names else "import labelled images first",
    )
