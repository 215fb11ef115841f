"""What every route works with, built once by `create_app` and kept on the app."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from bearloop.fetch import Fetcher
from inference.access import Tokens
from inference.body import Bodies
from inference.engine import Engine
from inference.metrics import Metrics
from inference.pool import Pool

FETCHES = 8
"""At once: with 32 MB each, as much as the bodies that are being read."""


@dataclass
class Serving:
    """The long-lived parts of one server."""

    engine: Engine
    pool: Pool
    tokens: Tokens
    bodies: Bodies
    metrics: Metrics
    fetcher: Fetcher | None
    """None where addresses are not fetched."""
    requests: int
    """That may be open at once."""
    fetches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES))
    """Addresses being fetched; each may hold a whole picture in memory."""
    draining: bool = False
    """True from SIGTERM on: not ready, and every answer closes its connection."""


def serving(request: Request) -> Serving:
    """Return the parts of the server that answers this request."""
    found = request.app.state.serving
    assert isinstance(found, Serving)
    return found


def _caller(request: Request, parts: Annotated[Serving, Depends(serving)]) -> Serving:
    parts.tokens.check(request.headers.get("authorization"))
    return parts


Anyone = Annotated[Serving, Depends(serving)]
"""The server's parts, for routes that need no token."""
Caller = Annotated[Serving, Depends(_caller)]
"""The server's parts, for holders of a token of this endpoint (anybody where it is public)."""
