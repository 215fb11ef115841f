"""A project with a version to train on."""

from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from api.tables import Class, Dataset, Project, Version

RUNS = "/v1/projects/zoo/runs"
RECIPES = "/v1/projects/zoo/recipes"


@dataclass
class Zoo:
    """The project's datasets and versions, as a test sees them."""

    database: Database
    project: Project

    def freeze(
        self, *, dataset: str = "bears", names: tuple[str, ...] = ("black", "teddy"), valid: int = 3
    ) -> int:
        """Make a dataset with a version; the last class has `valid` images to validate on."""
        with self.database.transaction() as session:
            row = Dataset(
                project_id=self.project.id, name=dataset, versions=1, created_by="trainer"
            )
            session.add(row)
            session.flush()
            made = [Class(dataset_id=row.id, name=n, position=p) for p, n in enumerate(names)]
            session.add_all(made)
            session.flush()
            entries = [{"id": c.id, "name": c.name, "position": c.position} for c in made]
            counts = dict.fromkeys(names, 3)
            version = Version(
                dataset_id=row.id,
                number=1,
                digest="ab" * 32,
                classes=entries,
                counts={"train": counts, "valid": {**counts, names[-1]: valid}, "test": {}},
                manifest_key="versions/ab/manifest.parquet",
                created_by="trainer",
            )
            session.add(version)
            session.flush()
            return version.id


@pytest.fixture
def zoo(database: Database, project: Project) -> Zoo:
    made = Zoo(database, project)
    made.freeze()
    return made


def start(client: TestClient, **asked: object) -> dict[str, object]:
    """Start one run on the bears; returns it."""
    answer = client.post(RUNS, json={"dataset": "bears", **asked})
    assert answer.status_code == 202, answer.text
    (item,) = answer.json()["items"]
    return dict(item)
