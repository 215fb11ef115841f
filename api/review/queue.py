"""A review's queue: the images of a run's report, copied in the order in which people see them."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller, Subject
from api.bulk import copy_rows
from api.errors import ConflictError, NotFoundError, UnprocessableError
from api.evaluation.reports import RunReport, find_report
from api.paging import Page, after_number, make_page
from api.review.schemas import NewReview, ReviewView
from api.tables import Dataset, Decision, Membership, Project, Review, Run, Version
from bearloop.contract.report import ReportRow
from bearloop.report_file import iter_rows, read_split_page
from bearloop.store import Store

COLUMNS = (
    "review_id",
    "rank",
    "sha256",
    "split",
    "class_id",
    "predicted",
    "confidence",
    "loss",
    "label_issue",
)


class UnknownReviewError(NotFoundError):
    """The project has no review of this number."""

    code = "unknown_review"
    title = "Unknown review"


class AlreadyClosedError(ConflictError):
    """The review was closed; its decisions stand."""

    code = "already_closed"
    title = "Already closed"


class NothingToReviewError(UnprocessableError):
    """The report holds no image in these splits."""

    code = "nothing_to_review"
    title = "Nothing to review"


class Reviewed(NamedTuple):
    """A review with what it is about."""

    review: Review
    run: Run
    version: Version
    dataset: Dataset


def create_review(
    session: Session, store: Store, caller: Caller, *, asked: NewReview
) -> ReviewView:
    """Queue the report's most doubtful images, conflicts before them, as the report orders them."""
    report = find_report(session, caller, asked.run)
    rows = list(_first_rows(store, report, asked))
    if not rows:
        raise NothingToReviewError(
            f"the report of run {asked.run} holds no image of {', '.join(asked.splits or [])}",
            field="splits",
            value=asked.splits,
            way_out="leave `splits` out to review all",
        )
    review = Review(
        project_id=caller.project_id,
        number=_next_number(session, caller),
        run_id=report.run.id,
        order=asked.order,
        screen_size=asked.screen_size,
        images=len(rows),
        created_by=caller.name,
    )
    session.add(review)
    session.flush()
    copy_rows(session, "queued_image", COLUMNS, rows=_queued(review.id, rows))
    audit.record(
        session, caller, "review.create", target=f"reviews/{review.number}", images=len(rows)
    )
    return show_review(session, caller, review.number)


def list_reviews(
    session: Session, caller: Caller, *, cursor: str | None, limit: int
) -> Page[ReviewView]:
    """List the project's reviews, the newest first."""
    after = after_number(cursor)
    query = select(Review).where(Review.project_id == caller.project_id)
    if after is not None:
        query = query.where(Review.number < after)
    rows = session.scalars(query.order_by(Review.number.desc()).limit(limit + 1)).all()
    return make_page(
        rows,
        limit=limit,
        key=lambda review: [review.number],
        item=lambda review: _view(session, find_review(session, caller, review.number)),
    )


def projects_of(session: Session, subject: Subject) -> list[str]:
    """Return the names of the projects that the subject is a member of."""
    query = select(Project.name).order_by(Project.name)
    if subject.project_id is not None:
        query = query.where(Project.id == subject.project_id)
    if not subject.platform:
        query = query.join(
            Membership,
            (Membership.project_id == Project.id) & (Membership.subject == subject.name),
        )
    return list(session.scalars(query))


def show_review(session: Session, caller: Caller, number: int) -> ReviewView:
    """Show one review."""
    return _view(session, find_review(session, caller, number))


def find_review(session: Session, caller: Caller, number: int) -> Reviewed:
    """Find the project's review of this number; raises UnknownReviewError."""
    row = session.execute(
        select(Review, Run, Version, Dataset)
        .join(Run, Run.id == Review.run_id)
        .join(Version, Version.id == Run.version_id)
        .join(Dataset, Dataset.id == Version.dataset_id)
        .where(Review.project_id == caller.project_id, Review.number == number)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise UnknownReviewError(
            f"{caller.project} has no review {number}",
            field="review",
            value=number,
            way_out=f"GET /v1/projects/{caller.project}/reviews lists them",
        )
    return Reviewed(*row)


def hold_open(session: Session, caller: Caller, number: int, *, alone: bool = False) -> Reviewed:
    """Find the review and keep it open until the transaction ends; raises AlreadyClosedError.

    Reviewers share the hold; closing wants it `alone`, and so waits for decisions under way.
    """
    found = find_review(session, caller, number)
    lock = select(Review).where(Review.id == found.review.id).with_for_update(read=not alone)
    review = session.scalars(lock.execution_options(populate_existing=True)).one()
    if review.state == "closed":
        raise _closed(session, review)
    return found


def _closed(session: Session, review: Review) -> AlreadyClosedError:
    made = session.get_one(Version, review.version_id) if review.version_id else None
    return AlreadyClosedError(
        f"review {review.number} was closed by {review.closed_by}",
        field="review",
        value={"review": review.number, "version": made.number if made else None},
        way_out=f"its decisions are in version {made.number}; open a new review to go on"
        if made
        else "open a new review to go on",
    )


def _first_rows(store: Store, report: RunReport, asked: NewReview) -> Iterable[ReportRow]:
    key = report.keys[asked.order]
    if asked.splits is None:
        return islice(iter_rows(store, key), asked.limit)
    pages = [
        read_split_page(store, key, split=split, start=0, count=asked.limit)
        for split in set(asked.splits)
    ]
    by_rank = sorted((row for page in pages for row in page), key=lambda row: row.rank)
    return by_rank[: asked.limit]


def _queued(review_id: int, rows: Iterable[ReportRow]) -> Iterable[tuple[object, ...]]:
    for rank, row in enumerate(rows):
        yield (
            review_id,
            rank,
            row.sha256,
            row.split,
            row.label,
            row.predicted,
            row.confidence,
            row.loss,
            row.label_issue,
        )


def _next_number(session: Session, caller: Caller) -> int:
    counted = (
        update(Project)
        .where(Project.id == caller.project_id)
        .values(reviews=Project.reviews + 1)
        .returning(Project.reviews)
    )
    return session.execute(counted).scalar_one()


def _view(session: Session, found: Reviewed) -> ReviewView:
    review = found.review
    decided = session.scalar(
        select(func.count()).where(Decision.review_id == review.id, Decision.undone_at.is_(None))
    )
    made = session.get(Version, review.version_id) if review.version_id else None
    retrained = session.get(Run, review.retrain_run_id) if review.retrain_run_id else None
    return ReviewView(
        number=review.number,
        run=found.run.number,
        dataset=found.dataset.name,
        version=found.version.number,
        order=review.order,
        screen_size=review.screen_size,
        state=review.state,
        images=review.images,
        decided=decided or 0,
        created_at=review.created_at,
        created_by=review.created_by,
        closed_at=review.closed_at,
        closed_by=review.closed_by,
        cleaned_version=made.number if made else None,
        retraining_run=retrained.number if retrained else None,
    )
