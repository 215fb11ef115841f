"""An import's ledger becomes rows: images, classes, claims, splits, and the ledger itself."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import TextClause, select, text, update
from sqlalchemy.orm import Session

from api.bulk import copy_rows
from api.classes import ensure_classes
from api.dataset import lock_labels
from api.imports.counting import count_sources
from api.imports.plan import Sharing
from api.labels import NewEvent, append_events
from api.stores import below_project
from api.tables import Import, Job, JobState
from bearloop.contract.imports import ImportOutput, ImportSpec, LedgerLine
from bearloop.contract.runs import RunOutput
from bearloop.ledger_file import BATCH, ledger_batches
from bearloop.store import Store

COLUMNS: Final = tuple(LedgerLine.model_fields)

CREATE_LEDGER = text(
    """
    create temporary table ledger (
        position bigint primary key, location text, class_name text, split text, status text,
        code text, detail text, sha256 text, bytes bigint, width bigint, height bigint,
        format text, content_type text, perceptual_hash bigint
    ) on commit drop
    """
)
DESCRIBE_LEDGER = text("analyze ledger")
ADD_IMAGES = text(
    """
    insert into image (project_id, sha256, bytes, width, height, format, perceptual_hash)
    select distinct on (sha256)
           cast(:project_id as bigint), sha256, bytes, width, height, format, perceptual_hash
    from ledger where status = 'stored' order by sha256, position
    on conflict do nothing
    """
)
CLASSES = text(
    """
    select distinct class_name from ledger
    where status <> 'refused' and sha256 <> '' and class_name <> ''
    """
)
CLAIMS = text(
    """
    select sha256, class_name from ledger
    where status <> 'refused' and sha256 <> '' and class_name <> ''
    group by sha256, class_name order by min(position)
    """
)
GIVE_SPLITS = text(
    """
    update dataset_image set split = given.split
    from (
        select distinct on (sha256) sha256, split from ledger
        where status <> 'refused' and split is not null order by sha256, position
    ) as given
    where dataset_image.dataset_id = :dataset_id and dataset_image.sha256 = given.sha256
      and dataset_image.split is null
    """
)
ADD_SOURCES = text(
    """
    insert into import_source (import_id, position, location, class_name, split, status, code,
                               detail, sha256, bytes, content_type)
    select :import_id, position, location, class_name, ledger.split, status,
           case when dataset_image.split <> ledger.split then 'split_kept' else code end,
           case when dataset_image.split <> ledger.split
                then 'it is in ' || dataset_image.split || ' already and stays there'
                else detail end,
           ledger.sha256, bytes, content_type
    from ledger
    left join dataset_image on dataset_image.dataset_id = :dataset_id
         and dataset_image.sha256 = ledger.sha256 and status <> 'refused'
    """
)
COUNT_LINES = text("select status, count(*) as lines from ledger group by status")
COUNT_CONFLICTS = text(
    """
    select count(distinct sha256) from ledger join dataset_image using (sha256)
    where status <> 'refused' and dataset_id = :dataset_id and state = 'conflict'
    """
)


class ImportKind:
    """What the life of a job adds for an import; implements `api.jobs.kinds.JobKind`."""

    name = "import"
    program = "importer"

    def __init__(self, store: Store, sharing: Sharing) -> None:
        self._store = store
        self._sharing = sharing

    def prepare(self, job: Job) -> ImportSpec:
        """Share a long source among pods: only here may its length be looked up."""
        spec = ImportSpec.model_validate(job.spec)
        most = self._sharing.most * self._sharing.per_shard
        if self._sharing.most == 1:
            return spec
        sources = count_sources(spec, below_project(self._store, job.project_id), most=most)
        return spec.model_copy(update={"shards": self._sharing.shards(sources)})

    def load(self, job: Job, output: ImportOutput | RunOutput) -> bytes:
        """Read the ledger's file, far smaller than its lines are in memory."""
        assert isinstance(output, ImportOutput)
        return below_project(self._store, job.project_id).get(output.ledger_key)

    def ingest(self, session: Session, job: Job, loaded: Any) -> None:
        made = session.scalars(select(Import).where(Import.job_id == job.id)).one()
        ingest_ledger(session, made, project_id=job.project_id, ledger=loaded)

    def settle(self, job: Job, state: JobState) -> None:
        """Nothing outside the database waits for an import."""


def ingest_ledger(session: Session, made: Import, *, project_id: int, ledger: bytes) -> None:
    """Turn the ledger's file into rows, all in this transaction; the images are stored already.

    Every claim is kept, once per image and class: bytes that are claimed for two classes become
    a conflict. Of two splits for one image the first stays; the ledger says where another was
    asked for. Lines are held by the batch, however long the ledger is.
    """
    lock_labels(session, made.dataset_id)
    scope = {"project_id": project_id, "dataset_id": made.dataset_id, "import_id": made.id}
    session.execute(CREATE_LEDGER)
    copy_rows(session, "ledger", COLUMNS, rows=_rows(ledger))
    session.execute(DESCRIBE_LEDGER)
    _execute(session, ADD_IMAGES, scope)
    _claim(session, made)
    _execute(session, GIVE_SPLITS, scope)
    _execute(session, ADD_SOURCES, scope)
    _count(session, made)
    session.execute(text("drop table ledger"))


def _rows(ledger: bytes) -> Iterator[Sequence[object]]:
    for batch in ledger_batches(ledger):
        for line in batch:
            yield [getattr(line, name) for name in COLUMNS]


def _execute(session: Session, statement: TextClause, scope: dict[str, int]) -> None:
    session.execute(statement, {name: scope[name] for name in statement.compile().params})


def _claim(session: Session, made: Import) -> None:
    ids = ensure_classes(session, made.dataset_id, set(session.scalars(CLASSES)))
    # Fetched as the events are written: the driver would hold the whole answer otherwise.
    claims = session.execute(CLAIMS, execution_options={"yield_per": BATCH})
    append_events(
        session,
        made.dataset_id,
        (NewEvent(sha256, "claim", ids[name]) for sha256, name in claims),
        actor=made.created_by,
        origin=f"import {made.number}",
    )


def _count(session: Session, made: Import) -> None:
    counts = {row.status: row.lines for row in session.execute(COUNT_LINES)}
    conflicts = session.scalar(COUNT_CONFLICTS, {"dataset_id": made.dataset_id})
    session.execute(
        update(Import)
        .where(Import.id == made.id)
        .values(
            stored=counts.get("stored", 0),
            duplicates=counts.get("duplicate", 0),
            refused=counts.get("refused", 0),
            conflicts=conflicts or 0,
        )
    )
