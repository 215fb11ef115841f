"""Screens: a reviewer claims the next few images; nobody else gets them while the lease runs."""

from collections.abc import Sequence
from datetime import timedelta
from math import exp
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.classes import classes_of
from api.evaluation.reports import class_names
from api.evaluation.views import picture_links
from api.review.queue import Reviewed, find_review, hold_open
from api.review.schemas import Decided, ScreenImage, ScreenView
from api.tables import Decision, QueuedImage, Review, Screen

# By the database's clock: reviewers' and servers' clocks differ.
LIVE = Screen.released_at.is_(None) & (Screen.lease_until > func.now())


def claim(session: Session, caller: Caller, number: int, *, lease: timedelta) -> ScreenView:
    """Give the caller their open screen, its lease renewed, or the next free images."""
    found = hold_open(session, caller, number)
    one_claim_at_a_time(session, found.review, caller)
    screen = open_screen(session, found.review, caller)
    if screen is None:
        screen = new_screen(session, found.review, caller, lease=lease)
        if not _fill(session, found.review, screen):
            session.delete(screen)
            session.flush()
            return view_screen(session, caller, found, screen=None)
        audit.record(session, caller, "review.claim", target=f"reviews/{number}")
    screen.lease_until = func.now() + lease
    session.flush()
    session.refresh(screen)
    return view_screen(session, caller, found, screen=screen)


def release(session: Session, caller: Caller, number: int) -> None:
    """Give the caller's undecided images back to the queue."""
    found = hold_open(session, caller, number)
    one_claim_at_a_time(session, found.review, caller)
    session.execute(
        update(Screen)
        .where(Screen.review_id == found.review.id, Screen.reviewer == caller.name, LIVE)
        .values(released_at=func.now())
    )
    audit.record(session, caller, "review.release", target=f"reviews/{number}")


def show_screen(session: Session, caller: Caller, number: int) -> ScreenView:
    """Show the caller's open screen without claiming; empty when there is none."""
    found = find_review(session, caller, number)
    return view_screen(session, caller, found, screen=open_screen(session, found.review, caller))


def one_claim_at_a_time(session: Session, review: Review, caller: Caller) -> None:
    """Make a reviewer's two tabs wait for each other, so that they get one screen and not two."""
    name = func.hashtextextended(f"screens of {caller.name}", review.id)
    session.execute(select(func.pg_advisory_xact_lock(name)))


def open_screen(session: Session, review: Review, caller: Caller) -> Screen | None:
    """Find the caller's newest screen whose lease runs and that still holds undecided images."""
    undecided = exists().where(
        QueuedImage.screen_id == Screen.id,
        QueuedImage.review_id == review.id,
        QueuedImage.decided.is_(False),
    )
    own = select(Screen).where(
        Screen.review_id == review.id, Screen.reviewer == caller.name, LIVE, undecided
    )
    return session.scalar(own.order_by(Screen.created_at.desc()).limit(1))


def new_screen(session: Session, review: Review, caller: Caller, *, lease: timedelta) -> Screen:
    """Add an empty screen with a running lease."""
    screen = Screen(review_id=review.id, reviewer=caller.name, lease_until=func.now() + lease)
    session.add(screen)
    session.flush()
    return screen


def is_free() -> ColumnElement[bool]:
    """Say whether a queued image is undecided and on no screen whose lease runs."""
    held = exists().where(Screen.id == QueuedImage.screen_id, LIVE)
    return QueuedImage.decided.is_(False) & ~held


def view_screen(
    session: Session, caller: Caller, found: Reviewed, *, screen: Screen | None
) -> ScreenView:
    """Show a screen's images in the order of the queue, with the decisions that stand."""
    choices = [entry.name for entry in classes_of(session, found.dataset.id)]
    if screen is None:
        return ScreenView(
            review=found.review.number, screen=None, lease_until=None, choices=choices, images=[]
        )
    return ScreenView(
        review=found.review.number,
        screen=screen.id,
        lease_until=screen.lease_until,
        choices=choices,
        images=_images(session, caller, found, screen_id=screen.id),
    )


def _fill(session: Session, review: Review, screen: Screen) -> int:
    # What the reviewer had before their lease ran out comes first: they have seen it.
    earlier = select(Screen.id).where(
        Screen.review_id == review.id, Screen.reviewer == screen.reviewer
    )
    taken = _take(session, screen, QueuedImage.screen_id.in_(earlier), count=review.screen_size)
    if taken < review.screen_size:
        anything = QueuedImage.review_id == review.id
        taken += _take(session, screen, anything, count=review.screen_size - taken)
    return taken


def _take(session: Session, screen: Screen, where: ColumnElement[bool], *, count: int) -> int:
    taken = 0
    while taken < count:
        wanted = (
            select(QueuedImage.rank)
            .where(QueuedImage.review_id == screen.review_id, where, is_free())
            .order_by(QueuedImage.rank)
            .limit(count - taken)
            .with_for_update(skip_locked=True, of=QueuedImage)
        )
        ranks = session.scalars(wanted).all()
        if not ranks:
            break
        # The locked rows may have been claimed, and their screen committed, after the query above
        # took its snapshot. Nobody can touch them now, and this statement sees what they are.
        mine = (
            update(QueuedImage)
            .where(
                QueuedImage.review_id == screen.review_id, QueuedImage.rank.in_(ranks), is_free()
            )
            .values(screen_id=screen.id)
            .returning(QueuedImage.rank)
            .execution_options(synchronize_session=False)
        )
        taken += len(session.scalars(mine).all())
    return taken


def _images(
    session: Session, caller: Caller, found: Reviewed, *, screen_id: UUID
) -> list[ScreenImage]:
    names = class_names(session, found.dataset.id)
    images = session.scalars(
        select(QueuedImage)
        .where(QueuedImage.review_id == found.review.id, QueuedImage.screen_id == screen_id)
        .order_by(QueuedImage.rank)
        .execution_options(populate_existing=True)
    ).all()
    decided = _standing(session, found.review, images, names=names)
    return [_image(caller, found, row, names=names, decided=decided) for row in images]


def _standing(
    session: Session, review: Review, images: Sequence[QueuedImage], *, names: dict[int, str]
) -> dict[str, Decided]:
    rows = session.execute(
        select(Decision.sha256, Decision.verb, Decision.class_id).where(
            Decision.review_id == review.id,
            Decision.sha256.in_([image.sha256 for image in images]),
            Decision.undone_at.is_(None),
        )
    )
    return {
        sha256: Decided.model_validate(
            {"verb": verb, "label": None if class_id is None else names[class_id]}
        )
        for sha256, verb, class_id in rows
    }


def _image(
    caller: Caller,
    found: Reviewed,
    row: QueuedImage,
    *,
    names: dict[int, str],
    decided: dict[str, Decided],
) -> ScreenImage:
    links = picture_links(caller.project, found.dataset.name, row.sha256)
    return ScreenImage.model_validate(
        {
            "rank": row.rank,
            "sha256": row.sha256,
            "split": row.split,
            "label": None if row.class_id is None else names[row.class_id],
            "predicted": names[row.predicted],
            "confidence": row.confidence,
            "p_label": None if row.loss is None else exp(-row.loss),
            "loss": row.loss,
            "label_issue": row.label_issue,
            "thumbnail": links.thumbnail,
            "content": links.content,
            "decision": decided.get(row.sha256),
        }
    )
