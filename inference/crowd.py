"""No more requests at once than the server has room for; probes are always answered."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.errors import BusyError, refusal

PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""A busy server is a healthy one: refused, these would have it killed."""


class Crowd:
    """Refuses what is one request too many; connections on which nothing is asked count nothing."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._limit:
            error = BusyError(
                f"{self._limit} requests are open: try again in a second, or run more replicas"
            )
            await refusal(Request(scope), error)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
