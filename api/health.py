"""Whether the API lives, whether it can serve, and what Prometheus is told."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from bearloop.store import Store, StoreError

router = APIRouter(tags=["health"])
PROBE = "probe"
"""A key that need not be there: asking for it shows that the store answers."""


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "ok"}


@router.get(
    "/readyz", response_model=None, responses={503: {"description": "Says what is missing."}}
)
def readyz(request: Request) -> JSONResponse:
    """Tell whether requests can be served, or what is missing."""
    state = request.app.state
    missing = [
        name
        for name, answers in (
            ("database", state.database.answers()),
            ("store", store_answers(state.store)),
        )
        if not answers
    ]
    if missing:
        return JSONResponse({"status": "not ready", "missing": missing}, status_code=503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Give the API's figures in Prometheus' text format."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4")


def store_answers(store: Store) -> bool:
    """Tell whether the object store answers just now."""
    try:
        store.exists(PROBE)
    except StoreError:
        return False
    return True
