"""What Prometheus is told of the API: requests and their time, by route."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """A registry of the application's own, so that two in one process do not collide."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "bearloop_api_requests",
            "Requests by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "bearloop_api_request_seconds",
            "Time until the answer began.",
            ["method", "route"],
            registry=registry,
        )

    def answered(self, scope: Scope, status: int, *, seconds: float) -> None:
        """Count one answer, under its route's pattern: paths would be one series each."""
        route = getattr(scope.get("route"), "path", "(none)")
        self._requests.labels(scope["method"], route, str(status)).inc()
        self._seconds.labels(scope["method"], route).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class CountingMiddleware:
    """Counts every answer of the application that it wraps."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count the answer when it begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.monotonic() - began
                self._metrics.answered(scope, message["status"], seconds=seconds)
            await send(message)

        await self._app(scope, receive, count)
