"""Whether the API lives, whether it can serve, and what Prometheus is told.

Who asks has no token: an answer names what is missing and why, and no host, role or bucket.
"""

import logging

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

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


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "ok"}


@router.get(
    "/readyz", response_model=None, responses={503: {"description": "Says what is missing."}}
)
def readyz(request: Request) -> JSONResponse:
    """Tell whether requests can be served, or what is missing and why.

    `without` names what the API can do without: runs wait for MLflow, all else goes on.
    """
    state = request.app.state
    found = {"database": state.database.problem(), "store": store_problem(state.store)}
    missing = {name: why for name, why in found.items() if why is not None}
    if missing:
        content = {"status": "not ready", "missing": list(missing), "because": missing}
        return JSONResponse(content, status_code=503)
    without = {} if mlflow_answers(state.mlflow) else {"mlflow": "does not answer"}
    return JSONResponse({"status": "ok", **({"without": without} if without else {})})


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


def mlflow_answers(mlflow: httpx.Client) -> bool:
    """Tell whether MLflow answers just now."""
    try:
        return mlflow.get("health", timeout=MLFLOW_WITHIN).is_success
    except httpx.HTTPError:
        return False


def _words(error: StoreError) -> str:
    if isinstance(error, RefusedKeysError):
        return "refuses the access keys"
    if isinstance(error, MissingBucketError):
        return "has no bucket of this name"
    return "does not answer"
