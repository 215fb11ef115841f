"""The API's one wiring place: settings in, a FastAPI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from threading import Event

from fastapi import APIRouter, FastAPI

from api import errors, idempotency
from api.database import Database
from api.datasets.routes import router as datasets
from api.evaluation.routes import router as evaluation
from api.health import Looks
from api.health import router as health
from api.imports.routes import router as imports
from api.leaving import LeavingMiddleware
from api.metrics import CountingMiddleware, Metrics
from api.openapi import DescribedApi, operation_id
from api.projects.routes import router as projects
from api.promotion.routes import router as promotion
from api.review.pages import review_pages
from api.review.routes import router as review
from api.runs.routes import router as runs
from api.runs.tracking_pages import open_mlflow, tracking_pages
from api.settings import Settings
from bearloop.store import Store, open_store

DESCRIPTION = """The whole life of an image classifier: images in, versions, runs, reports,
reviews, promotions, endpoints. Errors are problem+json with a stable `code`, lists are cursor
pages, long work answers 202 with the resource to poll."""

# Evaluation goes before runs: `/runs/compare` must not be read as a run's number.
STAGES = (projects, imports, datasets, evaluation, runs, review, promotion)


def create_app(
    settings: Settings, *, database: Database | None = None, store: Store | None = None
) -> FastAPI:
    """Build the application; what is not given is opened from the settings at start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.database = database or Database(
            settings.database_url, connections=settings.database_connections
        )
        app.state.store = store or open_store(settings.store_url)
        app.state.mlflow = open_mlflow(settings)
        app.state.looks = Looks(app.state, store=app.state.store.hasty())
        yield
        app.state.mlflow.close()
        app.state.database.close()

    app = DescribedApi(
        title="bearloop",
        description=DESCRIPTION,
        version="1",
        lifespan=lifespan,
        routes=_version_1().routes,
    )
    errors.install(app)
    idempotency.install(app)
    app.mount("/review", review_pages(app.state))
    app.mount("/mlflow", tracking_pages(app.state))
    app.include_router(health)
    app.state.metrics = Metrics()
    app.add_middleware(CountingMiddleware, metrics=app.state.metrics)
    app.state.leaving = Event()
    app.add_middleware(LeavingMiddleware, leaving=app.state.leaving)
    return app


@cache
def _version_1() -> APIRouter:
    """Wire the stages, which takes a third of a second: once, for any number of applications."""
    router = APIRouter(generate_unique_id_function=operation_id)
    for stage in STAGES:
        router.include_router(stage, prefix="/v1")
    return router
