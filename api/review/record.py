"""The record of a review: every decision in the order in which it was taken, undone ones too."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Caller
from api.evaluation.reports import class_names
from api.paging import Page, after_number, make_page
from api.review.queue import find_review
from api.review.schemas import DecisionView
from api.tables import Decision


def list_decisions(
    session: Session, caller: Caller, number: int, *, cursor: str | None, limit: int
) -> Page[DecisionView]:
    """List all decisions in the order in which they were taken, undone ones too."""
    found = find_review(session, caller, number)
    names = class_names(session, found.dataset.id)
    after = after_number(cursor) or 0
    rows = session.scalars(
        select(Decision)
        .where(Decision.review_id == found.review.id, Decision.id > after)
        .order_by(Decision.id)
        .limit(limit + 1)
    ).all()
    return make_page(
        rows, limit=limit, key=lambda row: [row.id], item=lambda row: _on_record(row, names)
    )


def _on_record(row: Decision, names: Mapping[int, str]) -> DecisionView:
    return DecisionView.model_validate(
        {
            "id": row.id,
            "sha256": row.sha256,
            "verb": row.verb,
            "label": None if row.class_id is None else names[row.class_id],
            "seen": None if row.seen_class_id is None else names[row.seen_class_id],
            "reviewer": row.reviewer,
            "at": row.at,
            "undone_at": row.undone_at,
        }
    )
