"""A trained run as the tests need it: a dataset, its version, a run and the run's report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import log
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.database import Database
from api.stores import below_project
from api.tables import (
    Class,
    Dataset,
    DatasetImage,
    Image,
    Job,
    JobState,
    LabelEvent,
    Project,
    Report,
    Run,
    Version,
)
from bearloop.contract.manifest import ManifestRow
from bearloop.contract.recipes import EvaluateStage, FitStage, Recipe
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import ReportRow, SplitFigures, SplitName, Summary
from bearloop.contract.runs import (
    Curves,
    EpochPoint,
    LrFind,
    LrPoint,
    RunSpec,
    StepPoint,
    Tracking,
)
from bearloop.intervals import wilson
from bearloop.manifest_file import write_manifest
from bearloop.report_file import write_report
from bearloop.store import Store

NAMES = ("black", "grizzly", "teddy")
RANK = {"valid": 0, "train": 1, "test": 2}


@dataclass(frozen=True)
class Seen:
    """One image: its label (by place in the class order), and what the run made of it."""

    name: str
    label: int | None
    predicted: int
    split: SplitName = "valid"
    p_label: float = 0.9
    label_issue: float = 0.1

    @property
    def sha256(self) -> str:
        return sha(self.name)


@dataclass(frozen=True)
class Trained:
    """Where the run is found."""

    number: int
    project_id: int
    dataset_id: int
    version_id: int
    classes: tuple[int, ...]
    images: tuple[Seen, ...] = field(repr=False)


def sha(name: str) -> str:
    """Make a short name a sha256: letters and digits above f are spelt by their code."""
    return name.encode().hex().ljust(64, "0")


def bears(count: int) -> list[Seen]:
    """Make `count` images of three classes, the later the less doubtful."""
    return [
        Seen(
            name=f"i{at:05}",
            label=at % 3,
            predicted=(at % 3 if at % 4 else (at + 1) % 3),
            split=("valid", "train", "test")[at % 5 % 3],
            p_label=0.05 + 0.9 * at / count,
            label_issue=0.95 - 0.9 * at / count,
        )
        for at in range(count)
    ]


def train(
    database: Database,
    store: Store,
    project: Project,
    images: Sequence[Seen],
    *,
    names: Sequence[str] = (),
) -> Trained:
    """Freeze the images as the first version of a new dataset `bears` and train run 1 on it.

    `names` replaces the names of the first classes.
    """
    called = (*names, *NAMES[len(names) :])
    with database.transaction() as session:
        dataset = Dataset(project_id=project.id, name="bears", versions=1, created_by="trainer")
        session.add(dataset)
        session.flush()
        classes = [
            Class(dataset_id=dataset.id, name=name, position=at) for at, name in enumerate(called)
        ]
        session.add_all(classes)
        session.flush()
        ids = tuple(row.id for row in classes)
        session.add_all(_image_rows(project.id, images))
        session.flush()
        session.add_all(_label_events(dataset.id, ids, images))
        session.add_all(_states(dataset.id, ids, images))
        version = _version(session, dataset, images=images, ids=ids, names=called)
        own = below_project(store, project.id)
        own.put(version.manifest_key, write_manifest(_manifest(images, ids)))
        trained = Trained(0, project.id, dataset.id, version.id, ids, tuple(images))
    return add_run(database, store, trained)


FOUND = LrFind(
    stage="head",
    points=(LrPoint(lr=1e-7, loss=1.2, smoothed=1.2),),
    end="diverged",
    suggestions={"minimum": 2e-2, "steepest": 1e-2, "valley": 8e-3, "slide": 4e-3},
    no_suggestion=None,
    reason=None,
    disagreement=5.0,
    lr=8e-3,
)
CURVES = Curves(
    epochs=(
        EpochPoint(
            stage="head", epoch=1, train_loss=1.2, valid_loss=0.5, error_rate=0.2, seconds=1
        ),
    ),
    steps=(StepPoint(step=1, loss=1.2, lr=0.01, momentum=0.9),),
    lr_finds=(FOUND,),
)
RECIPE = Recipe(
    name="fine-tune", stages=(FitStage(name="head", epochs=1, lr=0.01), EvaluateStage())
)
ON_ALL = RECIPE.model_copy(update={"name": "full-data", "train_on": "all"})


def add_run(
    database: Database,
    store: Store,
    trained: Trained,
    *,
    seed: int = 7,
    recipe: Recipe = RECIPE,
) -> Trained:
    """Train one more run on the version, with the images as `trained` holds them."""
    own = below_project(store, trained.project_id)
    with database.transaction() as session:
        project = session.get_one(Project, trained.project_id)
        project.runs += 1
        version = session.get_one(Version, trained.version_id)
        job = _job(project, version, recipe=recipe, seed=seed)
        session.add(job)
        session.flush()
        run = Run(
            project_id=project.id,
            number=project.runs,
            version_id=trained.version_id,
            recipe=recipe.name,
            recipe_digest=recipe.digest(),
            seed=seed,
            job_id=job.id,
            created_by="trainer",
        )
        session.add(run)
        session.flush()
        _end(session, run, trained, store=own, measures=recipe.train_on == "train")
        return replace(trained, number=project.runs)


def end_run(database: Database, store: Store, trained: Trained, *, number: int) -> None:
    """End a run that was asked for, with the images as `trained` holds them."""
    with database.transaction() as session:
        asked = select(Run).where(Run.project_id == trained.project_id, Run.number == number)
        run = session.scalars(asked).one()
        job = session.get_one(Job, run.job_id)
        job.state, job.finished_at = JobState.done, datetime.now(UTC)
        _end(session, run, trained, store=below_project(store, trained.project_id), measures=True)


def _end(session: Session, run: Run, trained: Trained, *, store: Store, measures: bool) -> None:
    run.curves_key = f"jobs/{run.job_id}/attempts/1/curves.json"
    store.put(run.curves_key, CURVES.canonical())
    session.add(_report(store, run, trained, measures=measures))


def _job(project: Project, version: Version, *, recipe: Recipe, seed: int) -> Job:
    job_id = uuid4()
    spec = RunSpec(
        job=str(job_id),
        project=project.name,
        run=project.runs,
        version_digest=version.digest,
        manifest_key=version.manifest_key,
        classes=tuple(ClassEntry.model_validate(entry) for entry in version.classes),
        recipe=recipe,
        seed=seed,
        code_version="0.1.0",
        tracking=Tracking(run_id="mlflow-1", experiment="zoo"),
    )
    return Job(
        id=job_id,
        project_id=project.id,
        kind="run",
        spec=spec.model_dump(mode="json"),
        state="done",
        finished_at=datetime.now(UTC),
    )


def _image_rows(project_id: int, images: Sequence[Seen]) -> list[Image]:
    return [
        Image(
            project_id=project_id,
            sha256=one.sha256,
            bytes=100,
            width=8,
            height=8,
            format="PNG",
            perceptual_hash=at,
        )
        for at, one in enumerate(images)
    ]


def _label_events(
    dataset_id: int, ids: tuple[int, ...], images: Sequence[Seen]
) -> list[LabelEvent]:
    return [
        LabelEvent(
            dataset_id=dataset_id,
            sha256=one.sha256,
            kind="claim",
            class_id=class_id,
            actor="trainer",
            origin="import 1",
        )
        for one in images
        for class_id in (ids[:2] if one.label is None else [ids[one.label]])
    ]


def _states(dataset_id: int, ids: tuple[int, ...], images: Sequence[Seen]) -> list[DatasetImage]:
    return [
        DatasetImage(
            dataset_id=dataset_id,
            sha256=one.sha256,
            state="conflict" if one.label is None else "labelled",
            class_id=None if one.label is None else ids[one.label],
            split=one.split,
            group_id=one.sha256,
        )
        for one in images
    ]


def _version(
    session: Session,
    dataset: Dataset,
    *,
    images: Sequence[Seen],
    ids: tuple[int, ...],
    names: Sequence[str],
) -> Version:
    entries = [
        ClassEntry(id=class_id, name=name, position=at)
        for at, (class_id, name) in enumerate(zip(ids, names, strict=True))
    ]
    version = Version(
        dataset_id=dataset.id,
        number=1,
        digest="1" * 64,
        classes=[entry.model_dump() for entry in entries],
        counts={"images": len(images)},
        manifest_key=f"versions/{'1' * 64}/manifest.parquet",
        created_by="trainer",
    )
    session.add(version)
    session.flush()
    return version


def _manifest(images: Sequence[Seen], ids: tuple[int, ...]) -> list[ManifestRow]:
    return [
        ManifestRow(
            sha256=one.sha256,
            label=None if one.label is None else ids[one.label],
            state="conflict" if one.label is None else "labelled",
            split=one.split,
            group=one.sha256,
            fold=at % 60,
        )
        for at, one in enumerate(images)
    ]


def _report(store: Store, run: Run, trained: Trained, *, measures: bool) -> Report:
    by_loss = sorted(trained.images, key=lambda i: (i.label is not None, RANK[i.split], i.p_label))
    by_issue = sorted(trained.images, key=lambda i: (i.label is not None, -i.label_issue))
    keys = {}
    for order, images in (("loss", by_loss), ("label_issue", by_issue)):
        keys[order] = f"jobs/{run.job_id}/attempts/1/report-{order}.parquet"
        rows = (_row(one, rank, trained.classes) for rank, one in enumerate(images))
        store.put(keys[order], write_report(rows))
    summary = _summary(trained)
    if not measures:
        summary = summary.model_copy(update={"splits": {}})
    return Report(
        run_id=run.id,
        summary=summary.model_dump(mode="json"),
        loss_key=keys["loss"],
        label_issue_key=keys["label_issue"],
    )


def _row(one: Seen, rank: int, ids: tuple[int, ...]) -> ReportRow:
    right = one.label == one.predicted
    confidence = one.p_label if right else max(0.5, 1 - one.p_label)
    known = one.label is not None
    return ReportRow(
        sha256=one.sha256,
        split=one.split,
        label=None if one.label is None else ids[one.label],
        rank=rank,
        predicted=ids[one.predicted],
        confidence=confidence,
        p_label=one.p_label if known else None,
        loss=-log(one.p_label) if known else None,
        top_classes=(ids[one.predicted],),
        top_probabilities=(confidence,),
        tta_predicted=None,
        tta_p_label=None,
        oof_predicted=ids[one.predicted],
        oof_p_label=one.p_label if known else None,
        oof_confidence=confidence,
        label_issue=one.label_issue if known else 1.0,
    )


def _summary(trained: Trained) -> Summary:
    splits: dict[SplitName, SplitFigures] = {}
    for split in RANK:
        own = [i for i in trained.images if i.split == split and i.label is not None]
        if own:
            splits[split] = _figures(own, len(trained.classes))  # type: ignore[index]
    return Summary(
        classes=trained.classes,
        splits=splits,
        conflicts=sum(one.label is None for one in trained.images),
    )


def _figures(images: Sequence[Seen], size: int) -> SplitFigures:
    matrix = [[0] * size for _ in range(size)]
    for one in images:
        assert one.label is not None
        matrix[one.label][one.predicted] += 1
    wrong = sum(one.label != one.predicted for one in images)
    return SplitFigures(
        images=len(images),
        error=wilson(wrong, len(images)),
        log_loss=sum(-log(one.p_label) for one in images) / len(images),
        tta_error=None,
        confusion=tuple(tuple(row) for row in matrix),
    )
