"""What probes and Prometheus ask; none of it needs a token."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from inference.serving import Anyone, Serving

router = APIRouter(tags=["health"])


def readiness(parts: Serving) -> JSONResponse:
    """Answer 200 while requests are welcome, 503 once the server is on its way out."""
    ready = not parts.draining
    return JSONResponse(
        {"ready": ready, "bundle": parts.engine.digest}, status_code=200 if ready else 503
    )


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    """Answer while the process runs."""
    return {"live": True}


@router.get("/readyz")
async def readyz(parts: Anyone) -> JSONResponse:
    """Say whether requests are welcome; the port is bound only after the golden check."""
    return readiness(parts)


@router.get("/metrics")
async def metrics(parts: Anyone) -> Response:
    """Return the server's figures for Prometheus."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)
