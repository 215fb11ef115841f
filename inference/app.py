"""The one wiring place: settings and a bundle become an application."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bearloop.bundle import Bundle
from bearloop.fetch import Fetcher, FetchError, FetchLimits
from bearloop.preprocess import PictureError
from inference import classify, errors, health, open_inference
from inference.access import Tokens
from inference.body import Bodies
from inference.cpus import usable_cpus
from inference.crowd import Crowd
from inference.engine import Engine, check_golden
from inference.metrics import Metrics
from inference.pool import Pool
from inference.serving import Serving
from inference.settings import Settings

BUFFERED = 256 * 1024 * 1024
"""Bytes of bodies being read at once: with the pictures in work, well below 1 GB."""


def build_serving(settings: Settings, bundle: Bundle) -> Serving:
    """Build the server's parts and prove the model; raises UnfitModelError or TokenFileError."""
    threads = settings.threads or usable_cpus()
    engine = Engine(bundle, max_pixels=settings.max_pixels, threads=threads)
    check_golden(engine, bundle)
    pool = Pool(threads=threads, queue=settings.queue)
    return Serving(
        engine=engine,
        pool=pool,
        tokens=Tokens(settings.tokens_file),
        bodies=Bodies(max_bytes=settings.max_bytes, max_buffered=BUFFERED),
        metrics=Metrics(engine, pool),
        fetcher=_fetcher(settings) if settings.fetches else None,
        requests=settings.requests,
    )


def create_app(parts: Serving) -> FastAPI:
    """Wire the routes, the errors and the figures around the server's parts."""
    # The pages of /docs load their script from elsewhere; /openapi.json is all here.
    app = FastAPI(title="bearloop inference", docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.serving = parts
    for routes in (classify.router, open_inference.router, health.router):
        app.include_router(routes)
    # What is added last is outermost: refused requests are measured too.
    app.add_middleware(Crowd, limit=parts.requests)
    app.add_middleware(_Measured, parts=parts)
    app.add_exception_handler(errors.RefusalError, errors.refusal)
    app.add_exception_handler(PictureError, errors.bad_picture)
    app.add_exception_handler(FetchError, errors.not_fetched)
    app.add_exception_handler(RequestValidationError, errors.bad_parameters)
    app.add_exception_handler(ClientDisconnect, errors.gone)
    app.add_exception_handler(HTTPException, errors.http_error)
    app.add_exception_handler(Exception, errors.unexpected)
    return app


def _fetcher(settings: Settings) -> Fetcher:
    # One try: the caller waits, and knows best whether to ask again.
    limits = FetchLimits(max_bytes=settings.max_bytes, timeout=10.0, tries=1)
    return Fetcher(limits, allow_private_addresses=settings.allow_private_addresses)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Serving = app.state.serving
    async with AsyncExitStack() as stack:
        if parts.fetcher is not None:
            await stack.enter_async_context(parts.fetcher)
        yield
    parts.pool.close()


class _Measured:
    """Counts and times every answer, and closes its connection once the server is leaving."""

    def __init__(self, app: ASGIApp, parts: Serving) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._parts.draining:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            # The pattern, not the path: a label for each made-up path would fill the memory.
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - began
            self._parts.metrics.answered(route, status, seconds=seconds)
