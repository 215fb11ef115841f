"""A queue over one report, decided by people."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request

from api.access import ForbiddenError, Reviewer, Trainer, UnauthorisedError, Viewer
from api.database import Db
from api.errors import responses
from api.evaluation.reports import NoReportError
from api.idempotency import IdempotentRoute
from api.paging import BadCursorError, CursorText, Limit, Page
from api.review import closing, decisions, progress, queue, record, screens
from api.review.schemas import (
    CloseAsked,
    ClosedView,
    DecisionsAsked,
    DecisionView,
    NewReview,
    ProgressView,
    ReviewView,
    ScreenView,
    UndoAsked,
)
from api.runs.runs import UnknownRunError
from api.runs.trainable import UntrainableVersionError
from api.stores import ProjectStore

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["review"],
    responses=responses(UnauthorisedError, ForbiddenError, queue.UnknownReviewError),
)

ReviewNumber = Annotated[int, Path(alias="review", description="Its number in the project.")]
CLOSED = responses(queue.AlreadyClosedError)


@router.post(
    "/projects/{project}/reviews",
    status_code=201,
    responses=responses(UnknownRunError, NoReportError, queue.NothingToReviewError),
)
def create_review(
    caller: Trainer, session: Db, *, store: ProjectStore, asked: NewReview
) -> ReviewView:
    """Queue the images of a run's report, the most doubtful labels or the highest losses first."""
    return queue.create_review(session, store, caller, asked=asked)


@router.get("/projects/{project}/reviews", responses=responses(BadCursorError))
def list_reviews(
    caller: Viewer, session: Db, *, cursor: CursorText = None, limit: Limit = 50
) -> Page[ReviewView]:
    """List the reviews, the newest first."""
    return queue.list_reviews(session, caller, cursor=cursor, limit=limit)


@router.get("/projects/{project}/reviews/{review}")
def show_review(caller: Viewer, session: Db, *, review: ReviewNumber) -> ReviewView:
    """Show a review."""
    return queue.show_review(session, caller, review)


@router.post("/projects/{project}/reviews/{review}/claim", responses=CLOSED)
def claim(caller: Reviewer, session: Db, *, request: Request, review: ReviewNumber) -> ScreenView:
    """Claim the next screen, or get the open one back with its lease renewed."""
    lease = request.app.state.settings.screen_lease
    return screens.claim(session, caller, review, lease=lease)


@router.get("/projects/{project}/reviews/{review}/screen")
def show_screen(caller: Reviewer, session: Db, *, review: ReviewNumber) -> ScreenView:
    """Show the caller's open screen; claims and renews nothing."""
    return screens.show_screen(session, caller, review)


@router.post(
    "/projects/{project}/reviews/{review}/screens/{screen}/decisions",
    responses=responses(
        queue.AlreadyClosedError,
        decisions.LeaseExpiredError,
        decisions.UnknownScreenError,
        decisions.UnknownChoiceError,
        decisions.NotOnScreenError,
        decisions.BadDecisionError,
    ),
)
def decide(
    caller: Reviewer, session: Db, *, review: ReviewNumber, screen: UUID, asked: DecisionsAsked
) -> ScreenView:
    """Decide on images of the screen, all or none; the same decision again changes nothing."""
    return decisions.decide(session, caller, review, screen_id=screen, asked=asked.decisions)


@router.get("/projects/{project}/reviews/{review}/decisions", responses=responses(BadCursorError))
def list_decisions(
    caller: Viewer,
    session: Db,
    *,
    review: ReviewNumber,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Page[DecisionView]:
    """List what was decided, by whom and when, undone decisions too."""
    return record.list_decisions(session, caller, review, cursor=cursor, limit=limit)


@router.post(
    "/projects/{project}/reviews/{review}/undo",
    responses=responses(queue.AlreadyClosedError, decisions.NothingToUndoError),
)
def undo(
    caller: Reviewer,
    session: Db,
    *,
    request: Request,
    review: ReviewNumber,
    asked: UndoAsked | None = None,
) -> ScreenView:
    """Take back the caller's last decisions; their images return to the caller's screen."""
    count = asked.count if asked else 1
    lease = request.app.state.settings.screen_lease
    return decisions.undo(session, caller, review, count=count, lease=lease)


@router.post("/projects/{project}/reviews/{review}/release", status_code=204, responses=CLOSED)
def release(caller: Reviewer, session: Db, *, review: ReviewNumber) -> None:
    """Give the caller's undecided images back to the queue."""
    screens.release(session, caller, review)


@router.get("/projects/{project}/reviews/{review}/progress")
def show_progress(caller: Viewer, session: Db, *, review: ReviewNumber) -> ProgressView:
    """Show how far the review is, what its last screens held, and whether it may stop."""
    return progress.show_progress(session, caller, review)


@router.post(
    "/projects/{project}/reviews/{review}/close",
    responses=responses(queue.AlreadyClosedError, UntrainableVersionError),
)
def close_review(
    caller: Trainer,
    session: Db,
    *,
    store: ProjectStore,
    review: ReviewNumber,
    asked: CloseAsked | None = None,
) -> ClosedView:
    """Write the decisions as label events and freeze the cleaned version, all or nothing."""
    retrain = asked.retrain if asked else False
    return closing.close_review(session, store, caller, number=review, retrain=retrain)
