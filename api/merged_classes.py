"""Classes that became part of another one: what was said of them is said of that one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.tables import Class


def merged_classes(session: Session, dataset_id: int) -> dict[int, int]:
    """Return each merged class of the dataset with the one that it belongs to now, by id.

    One step leads to the end: who was merged into a class follows it when it is merged itself.
    """
    rows = select(Class.id, Class.merged_into).where(
        Class.dataset_id == dataset_id, Class.merged_into.is_not(None)
    )
    return {merged: into for merged, into in session.execute(rows) if into is not None}


def as_merged(ids: NDArray[np.int64], merged: Mapping[int, int]) -> NDArray[np.int64]:
    """Return a copy of the class ids, one per image, with merged classes as what they are now."""
    today = ids.copy()
    for old, now in merged.items():
        today[ids == old] = now
    return today
