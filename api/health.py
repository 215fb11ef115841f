"""Whether the API lives, whether it can serve, and what Prometheus is told.

Who asks has no token: an answer names what is missing and why, and no host, role or bucket. It is
given on the event loop, as every thread may wait for a store that does not answer.
"""

import asyncio
import logging
from collections.abc import Callable

import httpx
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import State

from bearloop.store import (
    MissingBucketError,
    MissingObjectError,
    RefusedKeysError,
    Store,
    StoreError,
)

log = logging.getLogger("api")

router = APIRouter(tags=["health"])
PROBE = "probe"
"""A key that need not be there: asking for it shows that the store answers."""
MLFLOW_WITHIN = 2.0
"""Seconds; nobody waits longer for what is not needed."""
PATIENCE = 3.0
"""Seconds: less than a probe's own, so that it hears the reason."""
SILENCE = "does not answer"


class Look:
    """One question at a time, in a thread of its own: who asks meanwhile shares its answer."""

    def __init__(self, question: Callable[[], str | None], *, patience: float = PATIENCE) -> None:
        self._question = question
        self._patience = patience
        self._asked: asyncio.Task[str | None] | None = None
        self._last: str | None = None

    async def problem(self) -> str | None:
        """Return what is wrong, None if nothing is; silence is, for which nobody waits long."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({self._asked}, timeout=self._patience)
        if not done:
            return self._last or SILENCE
        self._last = self._asked.result()
        return self._last

    async def _ask(self) -> str | None:
        # Of no limit that others share; and the process may end while nothing is answered.
        own = CapacityLimiter(1)
        return await to_thread.run_sync(self._question, limiter=own, abandon_on_cancel=True)


class Looks:
    """What the API needs, and what it can do without."""

    def __init__(self, state: State, *, store: Store) -> None:
        self.database = Look(lambda: state.database.problem())
        self.store = Look(lambda: store_problem(store))
        self.mlflow = Look(lambda: mlflow_problem(state.mlflow))


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "ok"}


@router.get(
    "/readyz", response_model=None, responses={503: {"description": "Says what is missing."}}
)
async def readyz(request: Request) -> JSONResponse:
    """Tell whether requests can be served, or what is missing and why.

    `without` names what the API can do without: runs wait for MLflow, all else goes on.
    """
    state = request.app.state
    if state.leaving.is_set():
        return JSONResponse({"status": "leaving"}, status_code=503)
    looks: Looks = state.looks
    database, store, mlflow = await asyncio.gather(
        looks.database.problem(), looks.store.problem(), looks.mlflow.problem()
    )
    missing = {name: why for name, why in (("database", database), ("store", store)) if why}
    if missing:
        content = {"status": "not ready", "missing": list(missing), "because": missing}
        return JSONResponse(content, status_code=503)
    return JSONResponse({"status": "ok", **({"without": {"mlflow": mlflow}} if mlflow else {})})


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Give the API's figures in Prometheus' text format."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4")


def store_problem(store: Store) -> str | None:
    """Say why the object store cannot be used just now; None when it can."""
    try:
        # A GET, as S3 says why only with a body: a HEAD of no bucket looks like one of no object.
        store.get(PROBE)
    except MissingObjectError:
        return None
    except StoreError as error:
        log.warning("the store: %s", error)
        return _words(error)
    return None


def mlflow_problem(mlflow: httpx.Client) -> str | None:
    """Say that MLflow does not answer just now; None when it does."""
    try:
        return None if mlflow.get("health", timeout=MLFLOW_WITHIN).is_success else SILENCE
    except httpx.HTTPError:
        return SILENCE


def _words(error: StoreError) -> str:
    if isinstance(error, RefusedKeysError):
        return "refuses the access keys"
    if isinstance(error, MissingBucketError):
        return "has no bucket of this name"
    return SILENCE
