"""What a run says of every image, and of itself."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.access import ForbiddenError, UnauthorisedError, Viewer
from api.database import Db
from api.errors import responses
from api.evaluation import views
from api.evaluation.compared import NotComparableError
from api.evaluation.reports import NoReportError, NoSuchSplitError
from api.evaluation.schemas import (
    ComparisonView,
    ConfusionView,
    DiagnosisView,
    ImagesAsked,
    MostConfused,
    NoiseView,
    ReportImage,
    ReportView,
    SpreadView,
)
from api.paging import BadCursorError, Page
from api.runs import records
from api.runs.runs import UnknownRunError
from api.stores import ProjectStore
from bearloop.contract.report import SplitName

router = APIRouter(
    tags=["evaluation"],
    responses=responses(UnauthorisedError, ForbiddenError, UnknownRunError, NoReportError),
)

RunNumber = Annotated[int, Path(alias="run", description="The run's number in its project.")]
Split = Annotated[SplitName | None, Query(description="Absent: valid, what a run is judged by.")]


@router.get("/projects/{project}/runs/compare", responses=responses(NotComparableError))
def compare_runs(
    caller: Viewer,
    session: Db,
    *,
    store: ProjectStore,
    a: Annotated[int, Query(description="Number of the earlier run.")],
    b: Annotated[int, Query(description="Number of the later run.")],
) -> ComparisonView:
    """Compare two runs on the same images, under the labels of each one's version.

    A class that was merged into another one since counts as that one, for both runs.
    """
    return views.show_comparison(session, store, caller, a=a, b=b)


@router.get("/projects/{project}/runs/{run}/report")
def show_report(caller: Viewer, session: Db, *, run: RunNumber) -> ReportView:
    """Show the figures of each split with their 95 % intervals."""
    return views.show_report(session, caller, run)


@router.get("/projects/{project}/runs/{run}/spread", responses=responses(NoSuchSplitError))
def show_spread(caller: Viewer, session: Db, *, run: RunNumber, split: Split = None) -> SpreadView:
    """Show how far the seeds of the run's version and recipe lie apart, on one split."""
    return views.show_spread(session, caller, run, split=split)


@router.get("/projects/{project}/runs/{run}/confusion", responses=responses(NoSuchSplitError))
def show_confusion(
    caller: Viewer, session: Db, *, run: RunNumber, split: Split = None
) -> ConfusionView:
    """Show the confusion matrix of a split, by default valid."""
    return views.show_confusion(session, caller, run, split=split)


@router.get("/projects/{project}/runs/{run}/most-confused", responses=responses(NoSuchSplitError))
def show_most_confused(
    caller: Viewer,
    session: Db,
    *,
    run: RunNumber,
    split: Split = None,
    least: Annotated[int, Query(alias="min", ge=1, description="Fewest images of a pair.")] = 1,
) -> MostConfused:
    """List the pairs of classes that the run confuses, the most frequent first."""
    return views.show_most_confused(session, caller, run, split=split, least=least)


@router.get("/projects/{project}/runs/{run}/images", responses=responses(BadCursorError))
def list_images(
    caller: Viewer,
    session: Db,
    *,
    store: ProjectStore,
    run: RunNumber,
    asked: Annotated[ImagesAsked, Query()],
) -> Page[ReportImage]:
    """List the run's images, the most doubtful labels or the highest losses first."""
    return views.list_images(session, store, caller, run=run, asked=asked)


@router.get("/projects/{project}/runs/{run}/noise")
def show_noise(caller: Viewer, session: Db, *, store: ProjectStore, run: RunNumber) -> NoiseView:
    """Estimate how many labels of each class are wrong, and which class they belong to."""
    return views.show_noise(session, store, caller, run=run)


@router.get("/projects/{project}/runs/{run}/diagnosis", responses=responses(records.NoCurvesError))
def show_diagnosis(
    caller: Viewer, session: Db, *, store: ProjectStore, run: RunNumber
) -> DiagnosisView:
    """Name what went wrong with the run's rate, its epochs or its valid split, and the way out."""
    return views.show_diagnosis(session, store, caller, run=run)
