"""Training: runs and recipes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.access import ForbiddenError, Trainer, UnauthorisedError, Viewer
from api.allowed_sources import BadAddressError, ForbiddenAddressError
from api.classes import UnknownClassError
from api.database import Db
from api.datasets.find import UnknownDatasetError, UnknownVersionError
from api.datasets.images import MissingBytesError
from api.datasets.schemas import DatasetName
from api.errors import NotFoundError, responses
from api.idempotency import IdempotentRoute
from api.paging import Page
from api.runs import events, files, lr_finder, recipe_store, records, resources, runs, trainable
from api.runs.contact_sheets import AskedSheet, NothingToDrawError, draw_contact_sheet
from api.runs.runs import Asking
from api.runs.schemas import (
    AskedRuns,
    LogView,
    NewRun,
    RecipeView,
    RunFiles,
    RunView,
    StartedRuns,
)
from api.stores import ProjectStore
from bearloop.contract.recipes import Recipe
from bearloop.contract.runs import Curves, LrFinds, RunSpec

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["runs"],
    responses=responses(UnauthorisedError, ForbiddenError, NotFoundError),
)
RUNS = "/projects/{project}/runs"
RECIPES = "/projects/{project}/recipes"
SHEET = "/projects/{project}/datasets/{dataset}/contact-sheet.png"
Number = Annotated[int, Path(alias="run", ge=1, le=2**31, description="The run's number.")]


def asking_viewer(request: Request, caller: Viewer) -> Asking:
    """Gather who looks, on what installation."""
    return Asking(caller, request.app.state.settings)


def asking_trainer(request: Request, caller: Trainer) -> Asking:
    """Gather who trains, on what installation."""
    return Asking(caller, request.app.state.settings)


Looking = Annotated[Asking, Depends(asking_viewer, scope="function")]
Training = Annotated[Asking, Depends(asking_trainer, scope="function")]


def known_run(asked: Looking, session: Db, number: Number) -> int:
    """Return the number of a run that is there."""
    return runs.find_run(session, asked.caller, number).run.number


KnownRun = Annotated[int, Depends(known_run, scope="function")]


@router.post(
    RUNS,
    status_code=202,
    responses=responses(
        UnknownDatasetError,
        UnknownVersionError,
        trainable.UntrainableVersionError,
        trainable.NoSuchWeightsError,
        BadAddressError,
        ForbiddenAddressError,
        recipe_store.UnknownRecipeError,
        recipe_store.WrongRecipeError,
        resources.ContradictingResourcesError,
        resources.OverQuotaError,
    ),
)
def start_runs(asked: Training, session: Db, *, new: NewRun, response: Response) -> StartedRuns:
    """Train a version by a recipe, once for each seed; poll the `Location` of the first run."""
    started = runs.start_runs(session, asked, new)
    first = started.items[0].number
    response.headers["Location"] = f"/v1/projects/{asked.caller.project}/runs/{first}"
    return started


@router.get(RUNS)
def list_runs(asked: Looking, session: Db, *, wanted: AskedRuns) -> Page[RunView]:
    """List the project's runs, the newest first."""
    return runs.list_runs(session, asked, wanted)


@router.get(RUNS + "/{run}", responses=responses(runs.UnknownRunError))
def show_run(asked: Looking, session: Db, number: Number) -> RunView:
    """Show a run: its state and why, how far it is, and what came of it."""
    return runs.show_run(session, asked, number)


@router.post(
    RUNS + "/{run}/cancel",
    status_code=202,
    responses=responses(runs.UnknownRunError, runs.RunEndedError),
)
def cancel_run(asked: Training, session: Db, *, number: Number, response: Response) -> RunView:
    """End the run as soon as it can be; poll the `Location` until it is cancelled."""
    response.headers["Location"] = f"/v1/projects/{asked.caller.project}/runs/{number}"
    return runs.cancel_run(session, asked, number)


@router.get(RUNS + "/{run}/logs", responses=responses(runs.UnknownRunError))
def show_log(
    caller: Viewer,
    session: Db,
    *,
    number: Number,
    store: ProjectStore,
    launch: Annotated[int | None, Query(ge=1, description="Absent: the newest.")] = None,
) -> LogView:
    """Show the end of what the run's job printed; kept while it runs and after it ended."""
    return records.read_log(session, caller, number, store=store, launch=launch)


@router.get(RUNS + "/{run}/spec", responses=responses(runs.UnknownRunError))
def show_spec(caller: Viewer, session: Db, *, number: Number) -> RunSpec:
    """Give all that the run was told: `python -m trainer --spec` runs it again anywhere."""
    return files.read_spec(session, caller, number)


@router.get(RUNS + "/{run}/files", responses=responses(runs.UnknownRunError))
def show_files(caller: Viewer, session: Db, *, number: Number, store: ProjectStore) -> RunFiles:
    """Say where the run's files lie in the store, and by which command it runs again."""
    return files.find_files(session, caller, number, store=store)


@router.get(
    RUNS + "/{run}/curves", responses=responses(runs.UnknownRunError, records.NoCurvesError)
)
def show_curves(caller: Viewer, session: Db, *, number: Number, store: ProjectStore) -> Curves:
    """Show losses, rates and errors by step and by epoch."""
    return records.read_curves(session, caller, number, store=store)


@router.get(RUNS + "/{run}/lr-finder", responses=responses(runs.UnknownRunError))
def show_lr_finder(caller: Viewer, session: Db, *, number: Number, store: ProjectStore) -> LrFinds:
    """Show each lr-find of the run: its curve, and the rates that it suggests or why it does not.

    While the run goes on it shows the lr-finds so far.
    """
    return lr_finder.read_lr_finds(session, caller, number, store=store)


@router.get(
    RUNS + "/{run}/lr-finder.png",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "PNG."},
        **responses(runs.UnknownRunError, lr_finder.NoSearchError, lr_finder.NoPictureError),
    },
)
def show_lr_picture(
    caller: Viewer,
    session: Db,
    *,
    number: Number,
    store: ProjectStore,
    stage: Annotated[
        str | None,
        Query(description="The fit stage that the lr-find stands before. Absent: the first's."),
    ] = None,
) -> Response:
    """Draw an lr-find of the run: its curve with the rates that it suggests, or why it does not.

    It is there as soon as the search has ended, while the run goes on too.
    """
    drawn = lr_finder.read_lr_picture(session, caller, number, stage=stage, store=store)
    return Response(drawn, media_type="image/png", headers={"Cache-Control": "private, no-cache"})


@router.get(
    RUNS + "/{run}/events",
    response_class=StreamingResponse,
    responses=responses(runs.UnknownRunError, events.TooManyStreamsError),
)
async def follow_run(asked: Looking, number: KnownRun, *, request: Request) -> StreamingResponse:
    """Follow the run by server-sent events: a `run` event per change, until it has ended."""
    streams = events.streams_of(request.app)
    streams.check()
    database = request.app.state.database
    stream = events.follow_run(database, asked, number=number, streams=streams)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get(RECIPES)
def list_recipes(caller: Viewer, session: Db) -> Page[RecipeView]:
    """List bearloop's named recipes and the project's own, each complete."""
    return Page(items=recipe_store.list_recipes(session, caller))


@router.get(
    RECIPES + "/{recipe}",
    responses=responses(recipe_store.NoSuchRecipeError, recipe_store.WrongRecipeError),
)
def show_recipe(
    caller: Viewer,
    session: Db,
    name: Annotated[str, Path(alias="recipe", description="The recipe's name.")],
) -> RecipeView:
    """Show one recipe, complete."""
    return recipe_store.show_recipe(session, caller, name)


@router.post(
    RECIPES,
    status_code=201,
    responses=responses(recipe_store.WrongRecipeError, recipe_store.RecipeExistsError),
)
def add_recipe(caller: Trainer, session: Db, *, recipe: Recipe) -> RecipeView:
    """Store a recipe of the project's own; in the list its name stands for these steps for ever.

    What is left out is filled in and shown in the answer. A wrong one is refused with `errors`: one
    for each wrong field, with its value and the way out.
    """
    return recipe_store.add_recipe(session, caller, recipe)


@router.get(
    SHEET,
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "PNG."},
        **responses(
            UnknownDatasetError,
            UnknownClassError,
            MissingBytesError,
            NothingToDrawError,
            recipe_store.UnknownRecipeError,
            recipe_store.WrongRecipeError,
            runs.UnknownRunError,
        ),
    },
)
def show_contact_sheet(
    caller: Viewer, session: Db, dataset: DatasetName, *, asked: AskedSheet, store: ProjectStore
) -> Response:
    """Draw pictures as they are stored, or with `recipe` or `run` as training shows them the model.

    With one of these they are what it learns from: labelled images of the train split or of none
    yet, or of every split where it trains on all. They are the dataset's as it is now.
    """
    sheet = draw_contact_sheet(session, caller, dataset, asked=asked, store=store)
    return Response(sheet, media_type="image/png", headers={"Cache-Control": "private, no-cache"})
