"""Decisions: what a reviewer says of the images on their screen; none is ever deleted."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.classes import classes_of
from api.errors import ConflictError, NotFoundError, UnprocessableError
from api.review.queue import Reviewed, hold_open
from api.review.schemas import DecisionAsked, ScreenView
from api.review.screens import (
    LIVE,
    is_free,
    new_screen,
    one_claim_at_a_time,
    open_screen,
    view_screen,
)
from api.tables import Decision, QueuedImage, Screen


class UnknownScreenError(NotFoundError):
    """The caller has no screen of this id in the review."""

    code = "unknown_screen"
    title = "Unknown screen"


class LeaseExpiredError(ConflictError):
    """The screen's lease ran out or it was released, so others may have its images."""

    code = "lease_expired"
    title = "Lease expired"


class NothingToUndoError(ConflictError):
    """The caller has no standing decision in the review."""

    code = "nothing_to_undo"
    title = "Nothing to undo"


class UnknownChoiceError(UnprocessableError):
    """There is no such class to relabel to."""

    code = "unknown_choice"
    title = "Unknown choice"


class NotOnScreenError(UnprocessableError):
    """The image is not on this screen."""

    code = "not_on_screen"
    title = "Not on the screen"


class BadDecisionError(UnprocessableError):
    """The decision contradicts itself or its image."""

    code = "bad_decision"
    title = "Bad decision"


class _Wanted(NamedTuple):
    verb: str
    class_id: int | None


def decide(
    session: Session,
    caller: Caller,
    number: int,
    *,
    screen_id: UUID,
    asked: Sequence[DecisionAsked],
) -> ScreenView:
    """Take all the decisions or none; one that stands already changes nothing.

    While the lease runs, a reviewer may decide otherwise: the earlier decision is then undone.
    """
    found = hold_open(session, caller, number)
    one_claim_at_a_time(session, found.review, caller)
    screen = _own_screen(session, caller, found, screen_id=screen_id)
    images = _asked_images(session, found, asked)
    wanted = _wanted(session, found, asked, images=images)
    standing = _standing(session, found, list(wanted))
    new = {
        sha256: want
        for sha256, want in wanted.items()
        if sha256 not in standing or _Wanted(*_said(standing[sha256])) != want
    }
    if new:
        _check_lease(session, screen, images, new=list(new))
        _write(session, caller, screen, images=images, new=new, standing=standing)
        verbs = [want.verb for want in new.values()]
        audit.record(session, caller, "review.decide", target=f"reviews/{number}", verbs=verbs)
    return view_screen(session, caller, found, screen=screen)


def undo(
    session: Session, caller: Caller, number: int, *, count: int, lease: timedelta
) -> ScreenView:
    """Take back the caller's last decisions; their images come (back) onto the caller's screen."""
    found = hold_open(session, caller, number)
    one_claim_at_a_time(session, found.review, caller)
    last = session.scalars(
        select(Decision)
        .where(
            Decision.review_id == found.review.id,
            Decision.reviewer == caller.name,
            Decision.undone_at.is_(None),
        )
        .order_by(Decision.id.desc())
        .limit(count)
    ).all()
    if not last:
        raise NothingToUndoError(
            f"{caller.name} has no decision in review {number} that stands",
            field="count",
            value=count,
            way_out=f"GET …/reviews/{number}/decisions lists what was decided and undone",
        )
    images = [decision.sha256 for decision in last]
    _undo(session, last)
    screen = open_screen(session, found.review, caller) or new_screen(
        session, found.review, caller, lease=lease
    )
    session.execute(
        update(QueuedImage)
        .where(QueuedImage.review_id == found.review.id, QueuedImage.sha256.in_(images))
        .values(decided=False, screen_id=screen.id)
    )
    audit.record(session, caller, "review.undo", target=f"reviews/{number}", images=images)
    screen.lease_until = func.now() + lease
    session.flush()
    session.refresh(screen)
    return view_screen(session, caller, found, screen=screen)


def _own_screen(session: Session, caller: Caller, found: Reviewed, *, screen_id: UUID) -> Screen:
    screen = session.get(Screen, screen_id)
    mine = screen is not None and screen.reviewer == caller.name
    if screen is None or not mine or screen.review_id != found.review.id:
        raise UnknownScreenError(
            f"{caller.name} claimed no such screen in review {found.review.number}",
            field="screen",
            value=str(screen_id),
            way_out=f"POST …/reviews/{found.review.number}/claim gives you one",
        )
    return screen


def _asked_images(
    session: Session, found: Reviewed, asked: Sequence[DecisionAsked]
) -> dict[str, QueuedImage]:
    names = [one.sha256 for one in asked]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadDecisionError(
            f"image {min(twice)} is decided twice in one request",
            field="decisions",
            value=min(twice),
            way_out="send one decision for each image",
        )
    rows = session.scalars(
        select(QueuedImage)
        .where(QueuedImage.review_id == found.review.id, QueuedImage.sha256.in_(names))
        .order_by(QueuedImage.rank)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    images = {row.sha256: row for row in rows}
    for name in names:
        if name not in images:
            raise _not_on_screen(name)
    return images


def _wanted(
    session: Session,
    found: Reviewed,
    asked: Sequence[DecisionAsked],
    *,
    images: Mapping[str, QueuedImage],
) -> dict[str, _Wanted]:
    choices = {entry.name: entry.id for entry in classes_of(session, found.dataset.id)}
    return {one.sha256: _want(one, images[one.sha256], choices) for one in asked}


def _want(one: DecisionAsked, image: QueuedImage, choices: Mapping[str, int]) -> _Wanted:
    if (one.verb == "relabel") != (one.label is not None):
        raise BadDecisionError(
            f"image {one.sha256}: `relabel` needs a class, and no other verb takes one",
            field="class",
            value=one.label,
            way_out=f"relabel to one of: {', '.join(choices)}; or leave `class` out",
        )
    if one.verb == "keep" and image.class_id is None:
        raise BadDecisionError(
            f"image {one.sha256} is a conflict: there is no label to keep",
            field="verb",
            value=one.verb,
            way_out=f"relabel it to one of: {', '.join(choices)}; or remove, or unsure",
        )
    if one.label is None:
        return _Wanted(one.verb, None)
    if one.label not in choices:
        raise UnknownChoiceError(
            f"there is no class {one.label!r}",
            field="class",
            value=one.label,
            way_out=f"name one of: {', '.join(choices)}",
        )
    class_id = choices[one.label]
    # Relabelling to the label that it has is keeping it, and counts as right.
    return _Wanted("keep", None) if class_id == image.class_id else _Wanted("relabel", class_id)


def _standing(session: Session, found: Reviewed, images: Sequence[str]) -> dict[str, Decision]:
    rows = session.scalars(
        select(Decision).where(
            Decision.review_id == found.review.id,
            Decision.sha256.in_(images),
            Decision.undone_at.is_(None),
        )
    )
    return {row.sha256: row for row in rows}


def _said(decision: Decision) -> tuple[str, int | None]:
    return decision.verb, decision.class_id


def _check_lease(
    session: Session, screen: Screen, images: Mapping[str, QueuedImage], *, new: Sequence[str]
) -> None:
    if not session.scalar(select(Screen.id).where(Screen.id == screen.id, LIVE)):
        raise _lease_expired(session, screen, new)
    for sha256 in new:
        # While the lease runs nobody takes what is on the screen, so it never was there.
        if images[sha256].screen_id != screen.id:
            raise _not_on_screen(sha256)


def _lease_expired(session: Session, screen: Screen, new: Sequence[str]) -> LeaseExpiredError:
    still = select(QueuedImage.sha256).where(
        QueuedImage.review_id == screen.review_id, QueuedImage.sha256.in_(new), is_free()
    )
    free = set(session.scalars(still))
    return LeaseExpiredError(
        f"the screen was yours until {screen.lease_until:%H:%M:%S %Z}; {len(free)} of its "
        f"{len(new)} images are still free, and nothing was written",
        field="screen",
        value={
            "screen": str(screen.id),
            "free": [sha256 for sha256 in new if sha256 in free],
            "taken": [sha256 for sha256 in new if sha256 not in free],
        },
        way_out="POST …/claim gives you the free ones first; send their decisions again",
    )


def _write(
    session: Session,
    caller: Caller,
    screen: Screen,
    *,
    images: Mapping[str, QueuedImage],
    new: Mapping[str, _Wanted],
    standing: Mapping[str, Decision],
) -> None:
    _undo(session, [standing[sha256] for sha256 in new if sha256 in standing])
    for sha256, want in new.items():
        images[sha256].decided = True
        session.add(
            Decision(
                review_id=screen.review_id,
                screen_id=screen.id,
                sha256=sha256,
                verb=want.verb,
                class_id=want.class_id,
                seen_class_id=images[sha256].class_id,
                reviewer=caller.name,
            )
        )
    session.flush()


def _undo(session: Session, decisions: Sequence[Decision]) -> None:
    for decision in decisions:
        decision.undone_at = func.now()
    # Before the new ones: one standing decision per image is a unique index.
    session.flush()


def _not_on_screen(sha256: str) -> NotOnScreenError:
    return NotOnScreenError(
        f"image {sha256} is not on this screen",
        field="sha256",
        value=sha256,
        way_out="decide only images that the claim gave you",
    )
