"""How far a review is, what its last screens held, and whether it may stop."""

from typing import cast, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Caller
from api.review.queue import Reviewed, find_review
from api.review.schemas import AdviceView, ProgressView, ScreenShare, Verb
from api.review.screens import is_free
from api.review.stopping import ScreenTally, advise
from api.tables import Decision, QueuedImage

LAST = 20
"""Screens shown."""


def show_progress(session: Session, caller: Caller, number: int) -> ProgressView:
    """Count what is decided, look at the deepest screens, and advise."""
    found = find_review(session, caller, number)
    verbs, reviewers = _counts(session, found)
    decided = sum(verbs.values())
    left = found.review.images - decided
    screens = _deepest_screens(session, found)
    tallies = [ScreenTally(one.decided, one.wrong, one.unsure) for one in screens]
    advice = advise(tallies, left=left)
    return ProgressView(
        images=found.review.images,
        decided=decided,
        left=left,
        claimed=left - _free(session, found),
        verbs=verbs,
        reviewers=reviewers,
        screens=screens,
        advice=AdviceView(
            stop=advice.stop,
            right_screens=advice.right_screens,
            wrong_share=advice.wrong_share,
            says=advice.says,
        ),
    )


def _counts(session: Session, found: Reviewed) -> tuple[dict[Verb, int], dict[str, int]]:
    verbs: dict[Verb, int] = dict.fromkeys(get_args(Verb), 0)
    reviewers: dict[str, int] = {}
    rows = session.execute(
        select(Decision.verb, Decision.reviewer, func.count())
        .where(Decision.review_id == found.review.id, Decision.undone_at.is_(None))
        .group_by(Decision.verb, Decision.reviewer)
    )
    for verb, reviewer, count in rows:
        verbs[cast("Verb", verb)] += count
        reviewers[reviewer] = reviewers.get(reviewer, 0) + count
    return verbs, reviewers


def _free(session: Session, found: Reviewed) -> int:
    free = select(func.count()).where(QueuedImage.review_id == found.review.id, is_free())
    return session.scalar(free) or 0


def _deepest_screens(session: Session, found: Reviewed) -> list[ScreenShare]:
    # By the screen that an image was decided on last; one of which something is undecided has no
    # decision on record for that image, and does not count as looked at.
    waiting = select(QueuedImage.screen_id).where(
        QueuedImage.review_id == found.review.id,
        QueuedImage.decided.is_(False),
        QueuedImage.screen_id.is_not(None),
    )
    rows = session.execute(
        select(
            func.min(Decision.reviewer),
            func.min(QueuedImage.rank),
            func.count(),
            func.count().filter(Decision.verb.in_(["relabel", "remove"])),
            func.count().filter(Decision.verb == "unsure"),
        )
        .join(
            QueuedImage,
            (QueuedImage.review_id == Decision.review_id) & (QueuedImage.sha256 == Decision.sha256),
        )
        .where(
            Decision.review_id == found.review.id,
            Decision.undone_at.is_(None),
            Decision.screen_id.not_in(waiting),
        )
        .group_by(Decision.screen_id)
        .order_by(func.min(QueuedImage.rank).desc())
        .limit(LAST)
    )
    return [
        ScreenShare(reviewer=reviewer, first_rank=rank, decided=count, wrong=wrong, unsure=unsure)
        for reviewer, rank, count, wrong, unsure in rows
    ]
