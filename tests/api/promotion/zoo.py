"""Runs that are done, with reports in the store, and a worker to step."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update

from api.cluster.protocol import Cluster
from api.database import Database
from api.promotion.reconcile import step
from api.promotion.strays import remove_strays
from api.runs.named_recipes import FINE_TUNE
from api.settings import Settings
from api.stores import below_project
from api.tables import (
    Class,
    Dataset,
    Endpoint,
    Job,
    JobState,
    Project,
    Promotion,
    Report,
    Run,
    Version,
)
from bearloop.contract.recipes import Recipe
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import Metric, ReportRow, SplitFigures, Summary
from bearloop.contract.runs import RunSpec
from bearloop.report_file import write_report
from bearloop.store import FolderStore, Store, image_key
from tests.api.promotion.cluster import CLASSES, probabilities

Predict = Callable[[bytes], Mapping[int, float]]


def by_hash(picture: bytes) -> Mapping[int, float]:
    """Predict as the fake cluster's servers do."""
    return probabilities(hashlib.sha256(picture).hexdigest())


@dataclass
class Zoo:
    """The project `zoo` with its runs, and a worker."""

    database: Database
    store: FolderStore
    settings: Settings
    project: Project

    @property
    def files(self) -> Store:
        return below_project(self.store, self.project.id)

    def add_run(
        self,
        digest: str,
        *,
        state: JobState = JobState.done,
        error: float = 0.1,
        pictures: list[tuple[bytes, str, int | None]] | None = None,
        predict: Predict = by_hash,
        recipe: Recipe = FINE_TUNE,
        seed: int = 1,
    ) -> int:
        """Add a run with its report over (picture, split, label); return its number."""
        images = pictures if pictures is not None else default_pictures()
        for picture, _, _ in images:
            self.files.put(image_key(hashlib.sha256(picture).hexdigest()), picture)
        with self.database.transaction() as session:
            version = self._version()
            number = session.scalars(select(func.count()).select_from(Run)).one() + 1
            spec = spec_of(number, recipe, seed).model_dump(mode="json")
            job = Job(project_id=self.project.id, kind="run", spec=spec, state=state)
            session.add(job)
            session.flush()
            run = Run(
                project_id=self.project.id,
                number=number,
                version_id=version.id,
                recipe=recipe.name,
                recipe_digest=recipe.digest(),
                seed=seed,
                job_id=job.id,
                bundle_digest=digest if state is JobState.done else None,
                created_by="trainer",
            )
            session.add(run)
            session.flush()
            if state is JobState.done:
                key = f"reports/{number}.parquet"
                rows = report_rows(images, predict)
                self.files.put(key, write_report(rows))
                summary = summarise(rows, error)
                if recipe.train_on == "all":
                    summary = summary.model_copy(update={"splits": {}})
                told = summary.model_dump(mode="json")
                session.add(Report(run_id=run.id, summary=told, loss_key=key, label_issue_key=key))
        return number

    def step(self, cluster: Cluster, owner: str = "one") -> bool:
        return step(self.database, cluster, self.store, settings=self.settings, owner=owner)

    def sweep(self, cluster: Cluster) -> list[str]:
        """Take away what has no right to be there; return the names."""
        return remove_strays(self.database, cluster)

    def settle(self, cluster: Cluster, owner: str = "one", *, rounds: int = 40) -> None:
        """Step until no promotion is under way, as if time passed between the steps."""
        for _ in range(rounds):
            self.make_due()
            self.step(cluster, owner)
            if not self.unfinished():
                return
        raise AssertionError("the promotion comes to no end")

    def merge(self, class_id: int, *, into: int) -> None:
        """Make one class of the dataset part of another one, as its owner would."""
        with self.database.transaction() as session:
            dataset = self._version().dataset_id
            session.add_all(
                Class(id=key, dataset_id=dataset, name=name, position=place)
                for place, (key, name) in enumerate(CLASSES.items())
            )
            session.flush()
            session.get_one(Class, class_id).merged_into = into

    def make_due(self) -> None:
        with self.database.transaction() as session:
            session.execute(update(Endpoint).values(due_at=func.now()))

    def expire_leases(self) -> None:
        """Let every claim run out, as it does when a worker was killed."""
        past = func.now() - timedelta(seconds=1)
        claimed = update(Endpoint).where(Endpoint.lease_until.is_not(None))
        with self.database.transaction() as session:
            session.execute(claimed.values(lease_until=past, due_at=past))

    def pass_time(self, span: timedelta) -> None:
        """Make every promotion that much older."""
        with self.database.transaction() as session:
            session.execute(update(Promotion).values(moved_at=Promotion.moved_at - span))

    def unfinished(self) -> bool:
        return any(state in ("checking", "rolling_out") for state in self.states())

    def states(self) -> list[str]:
        with self.database.transaction() as session:
            return list(session.scalars(select(Promotion.state).order_by(Promotion.id)))

    def promotions(self) -> list[Promotion]:
        with self.database.transaction() as session:
            return list(session.scalars(select(Promotion).order_by(Promotion.id)))

    def endpoint(self) -> Endpoint:
        with self.database.transaction() as session:
            return session.scalars(select(Endpoint)).one()

    def _version(self) -> Version:
        with self.database.transaction() as session:
            found = session.scalar(select(Version))
            if found is not None:
                return found
            dataset = Dataset(project_id=self.project.id, name="bears", created_by="trainer")
            session.add(dataset)
            session.flush()
            version = Version(
                dataset_id=dataset.id,
                number=1,
                digest="v",
                classes=[
                    {"id": key, "name": name, "position": place}
                    for place, (key, name) in enumerate(CLASSES.items())
                ],
                counts={},
                manifest_key="versions/v/manifest.parquet",
                created_by="trainer",
            )
            session.add(version)
        return version


def spec_of(number: int, recipe: Recipe, seed: int) -> RunSpec:
    """What the run was told."""
    entries = [
        ClassEntry(id=key, name=name, position=place)
        for place, (key, name) in enumerate(CLASSES.items())
    ]
    return RunSpec(
        job=f"job-{number}",
        project="zoo",
        run=number,
        version_digest="v",
        manifest_key="versions/v/manifest.parquet",
        classes=tuple(entries),
        recipe=recipe,
        seed=seed,
        code_version="0.1.0",
    )


def default_pictures() -> list[tuple[bytes, str, int | None]]:
    """Return 40 valid, 10 training and 4 test images, and a conflict; any bytes do for a fake."""
    splits = ["valid"] * 40 + ["train"] * 10 + ["test"] * 4
    named = [(f"picture {n}".encode(), split, 70) for n, split in enumerate(splits)]
    return [(b"a conflict", "valid", None), *named]


def report_rows(pictures: list[tuple[bytes, str, int | None]], predict: Predict) -> list[ReportRow]:
    """Return the report's rows in the order given, which is the file's."""
    rows = []
    for rank, (picture, split, label) in enumerate(pictures):
        seen = predict(picture)
        order = sorted(seen, key=lambda key: -seen[key])
        rows.append(
            ReportRow.model_validate(
                {
                    "sha256": hashlib.sha256(picture).hexdigest(),
                    "split": split,
                    "label": label,
                    "rank": rank,
                    "predicted": order[0],
                    "confidence": seen[order[0]],
                    "p_label": None if label is None else seen[label],
                    "loss": None if label is None else 0.5,
                    "top_classes": tuple(order),
                    "top_probabilities": tuple(seen[key] for key in order),
                    "tta_predicted": None,
                    "tta_p_label": None,
                    "oof_predicted": order[0],
                    "oof_p_label": None,
                    "oof_confidence": 0.5,
                    "label_issue": 0.5,
                }
            )
        )
    return rows


def summarise(rows: list[ReportRow], error: float) -> Summary:
    """Return a summary with this error in every split that has labelled images."""
    labelled = [row for row in rows if row.label is not None]
    counts = {split: sum(row.split == split for row in labelled) for split in ("valid", "train")}
    counts["test"] = sum(row.split == "test" for row in labelled)
    return Summary(
        classes=tuple(CLASSES),
        splits={
            split: SplitFigures(
                images=count,
                error=Metric(value=error, low=0, high=1, n=count),
                log_loss=error * 2,
                tta_error=None,
                confusion=(),
            )
            for split, count in counts.items()
            if count
        },
        conflicts=len(rows) - len(labelled),
    )
