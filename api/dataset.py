"""The dataset that a path names, found in the caller's project and locked while labels change."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Caller
from api.errors import NotFoundError
from api.tables import Dataset


class UnknownDatasetError(NotFoundError):
    """The project has no dataset of this name."""

    code = "unknown_dataset"
    title = "Unknown dataset"


def find_dataset(session: Session, caller: Caller, name: str) -> Dataset:
    """Return the project's dataset of this name; raises UnknownDatasetError."""
    found = session.scalar(
        select(Dataset).where(Dataset.project_id == caller.project_id, Dataset.name == name)
    )
    if found is None:
        raise UnknownDatasetError(
            f"the project {caller.project} has no dataset {name!r}",
            field="dataset",
            value=name,
            way_out=f"GET /v1/projects/{caller.project}/datasets lists them; POST there makes one",
        )
    return found


def lock_labels(session: Session, dataset_id: int) -> None:
    """Let one transaction at a time change the dataset's labels, classes and splits.

    Two that claim the same image would each derive its state without the other's claim. An
    advisory lock, not the dataset's row: numbering an import must not wait for a long ingestion.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("labels", dataset_id))))
