"""Label events in bulk, and the current state of each image that follows from them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from api.bulk import copy_rows
from api.dataset import lock_labels
from api.label_state import Kind
from api.tables import DatasetImage

BATCH = 20_000
"""Events written and derived at once; bounds memory, not the number of events."""

# The rule of label_state.current_label, on sets. A class that was merged means its target; ids
# grow in commit order, because whoever writes events holds the dataset's lock.
DERIVE = text(
    """
    insert into dataset_image (dataset_id, sha256, state, class_id, removed, group_id)
    select :dataset_id, sha256,
           case when decided is null and claims > 1 then 'conflict' else 'labelled' end,
           case when decided is null and claims > 1 then null else coalesce(decided, claimed) end,
           coalesce(switched = 'remove', false), sha256
    from (
        select e.sha256,
               (array_agg(coalesce(c.merged_into, c.id) order by e.id desc)
                filter (where e.kind = 'label'))[1] as decided,
               min(coalesce(c.merged_into, c.id)) filter (where e.kind = 'claim') as claimed,
               count(distinct coalesce(c.merged_into, c.id))
                filter (where e.kind = 'claim') as claims,
               (array_agg(e.kind order by e.id desc)
                filter (where e.kind in ('remove', 'restore')))[1] as switched
        from label_event e
        join unnest(:touched) as touched (sha256) using (sha256)
        left join class c on c.id = e.class_id
        where e.dataset_id = :dataset_id
        group by e.sha256
    ) as derived
    where coalesce(decided, claimed) is not null
    on conflict (dataset_id, sha256) do update
    set state = excluded.state, class_id = excluded.class_id, removed = excluded.removed
    """
).bindparams(bindparam("touched", type_=ARRAY(TEXT)))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A label event to be: what is said of which image, and why."""

    sha256: str
    kind: Kind
    class_id: int | None = None
    """Of a claim or a label."""
    reason: str | None = None


def append_events(
    session: Session, dataset_id: int, events: Iterable[NewEvent], *, actor: str, origin: str
) -> None:
    """Append the events in their order, and derive the state of the images that they touch.

    `origin` is `import 3`, `review 2` or `api`. Holds the dataset's label lock until the
    transaction ends.
    """
    lock_labels(session, dataset_id)
    for batch in _batches(events):
        copy_rows(
            session,
            "label_event",
            ("dataset_id", "sha256", "kind", "class_id", "actor", "origin", "reason"),
            rows=(
                (dataset_id, event.sha256, event.kind, event.class_id, actor, origin, event.reason)
                for event in batch
            ),
        )
        derive_states(session, dataset_id, {event.sha256 for event in batch})


def derive_states(session: Session, dataset_id: int, images: Iterable[str]) -> None:
    """Derive the images' current state from all of their events; who calls holds the lock."""
    session.execute(DERIVE, {"dataset_id": dataset_id, "touched": sorted(images)})
    for row in list(session.identity_map.values()):
        if isinstance(row, DatasetImage):
            session.expire(row)  # what was read before may be stale now


def _batches(events: Iterable[NewEvent]) -> Iterator[Sequence[NewEvent]]:
    rest = iter(events)
    while batch := list(islice(rest, BATCH)):
        yield batch
