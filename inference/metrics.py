"""What Prometheus is told of the server."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from inference.engine import Engine, Prediction
from inference.pool import Pool

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The server's own registry, so that two servers in one process do not collide."""

    def __init__(self, engine: Engine, pool: Pool) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "bearloop_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "bearloop_request_seconds",
            "Time from the request's headers to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            "bearloop_predictions", "Pictures by likeliest class.", ["class_id"], registry=registry
        )
        self._confidence = Histogram(
            "bearloop_confidence",
            "Probability of the likeliest class.",
            buckets=[tenth / 10 for tenth in range(1, 11)],
            registry=registry,
        )
        taken = Gauge("bearloop_pool_taken", "Calls that run or wait.", registry=registry)
        taken.set_function(lambda: pool.taken)
        capacity = Gauge("bearloop_pool_capacity", "Calls that fit.", registry=registry)
        capacity.set(pool.capacity)
        bundle = Gauge(
            "bearloop_bundle", "The bundle served.", ["digest", "model"], registry=registry
        )
        bundle.labels(engine.digest, engine.card.model).set(1)

    def answered(self, route: str, status: int, *, seconds: float) -> None:
        """Count one answer; `route` is the path's pattern, never the path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def predicted(self, predictions: Iterable[Prediction]) -> None:
        """Count the first of one picture's predictions."""
        for best in list(predictions)[:1]:
            self._predictions.labels(str(best.entry.id)).inc()
            self._confidence.observe(best.probability)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)
