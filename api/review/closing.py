"""Closing a review: its decisions become label events and the cleaned version, all or nothing."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.dataset import lock_labels
from api.datasets.versions import REMOVED, Change, freeze_with_decisions
from api.evaluation.reports import class_names
from api.label_state import LabelState, State
from api.labels import NewEvent, append_events
from api.merged_classes import merged_classes
from api.review.queue import Reviewed, hold_open, show_review
from api.review.retraining import retrain_on
from api.review.schemas import ChangedSince, ClosedView, Verb
from api.review.settlement import Outcome, Said, event_of, settle
from api.tables import DatasetImage, Decision, QueuedImage, Run, Version
from bearloop.store import Store


class _Settled(NamedTuple):
    decision: Decision
    said: Said
    now: LabelState
    outcome: Outcome


def close_review(
    session: Session, store: Store, caller: Caller, *, number: int, retrain: bool
) -> ClosedView:
    """Write the label events, freeze the cleaned version, on request queue the retraining, close.

    Decisions whose label changed since are reported and left out. Undecided images stay as they
    were.
    """
    found = hold_open(session, caller, number, alone=True)
    # From here to the commit nobody changes a label, so the guard holds.
    lock_labels(session, found.dataset.id)
    settled = _settle(session, found)
    _append(session, found, settled)
    version = freeze_with_decisions(
        session, store, base=found.version, changes=_changes(settled), actor=caller.name
    )
    run = retrain_on(session, caller, run=found.run, version=version) if retrain else None
    _close(session, caller, found, version=version, run=run)
    written = Counter(one.decision.verb for one in settled if one.outcome is Outcome.write)
    return ClosedView(
        review=show_review(session, caller, number),
        version=version.number,
        digest=version.digest,
        written=cast("dict[Verb, int]", dict(written)),
        conflicts=_conflicts(settled, class_names(session, found.dataset.id)),
        retraining_run=run.number if run else None,
    )


def _settle(session: Session, found: Reviewed) -> list[_Settled]:
    merged = merged_classes(session, found.dataset.id)
    rows = session.execute(
        select(Decision, DatasetImage)
        .join(
            QueuedImage,
            (QueuedImage.review_id == Decision.review_id) & (QueuedImage.sha256 == Decision.sha256),
        )
        .join(
            DatasetImage,
            (DatasetImage.dataset_id == found.dataset.id)
            & (DatasetImage.sha256 == Decision.sha256),
        )
        .where(Decision.review_id == found.review.id, Decision.undone_at.is_(None))
        .order_by(QueuedImage.rank)
        .execution_options(populate_existing=True)
    )
    settled = []
    for decision, image in rows:
        said = Said(
            verb=decision.verb,
            # A class that was merged since means the one that it was merged into.
            class_id=merged.get(decision.class_id or 0, decision.class_id),
            seen=merged.get(decision.seen_class_id or 0, decision.seen_class_id),
        )
        now = LabelState(cast("State", image.state), image.class_id, image.removed)
        settled.append(_Settled(decision, said, now, settle(said, now)))
    return settled


def _append(session: Session, found: Reviewed, settled: Sequence[_Settled]) -> None:
    by_reviewer: dict[str, list[NewEvent]] = defaultdict(list)
    for one in settled:
        if one.outcome is Outcome.write:
            kind, class_id = event_of(one.said)
            event = NewEvent(one.decision.sha256, kind, class_id, reason=one.decision.verb)
            by_reviewer[one.decision.reviewer].append(event)
    for reviewer, events in by_reviewer.items():
        append_events(
            session,
            found.dataset.id,
            events,
            actor=reviewer,
            origin=f"review {found.review.number}",
        )


def _changes(settled: Sequence[_Settled]) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for one in settled:
        if one.outcome not in (Outcome.write, Outcome.stands):
            continue
        if one.said.verb == "remove":
            changes[one.decision.sha256] = REMOVED
        elif one.said.class_id is not None:
            changes[one.decision.sha256] = one.said.class_id
    return changes


def _close(
    session: Session, caller: Caller, found: Reviewed, *, version: Version, run: Run | None
) -> None:
    review = found.review
    review.state = "closed"
    review.closed_at = func.now()
    review.closed_by = caller.name
    review.version_id = version.id
    review.retrain_run_id = run.id if run else None
    session.flush()
    audit.record(
        session,
        caller,
        "review.close",
        target=f"reviews/{review.number}",
        version=version.number,
        run=run.number if run else None,
    )


def _conflicts(settled: Sequence[_Settled], names: Mapping[int, str]) -> list[ChangedSince]:
    def name(class_id: int | None) -> str | None:
        return None if class_id is None else names[class_id]

    return [
        ChangedSince.model_validate(
            {
                "sha256": one.decision.sha256,
                "verb": one.decision.verb,
                "label": name(one.said.class_id),
                "seen": name(one.said.seen),
                "now": name(one.now.class_id),
                "removed": one.now.removed,
                "reviewer": one.decision.reviewer,
            }
        )
        for one in settled
        if one.outcome is Outcome.changed
    ]
