"""Endpoints and promotions, and asking an endpoint."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict, Unpack

import httpx

from bearloop.client.connection import Connection, UnreachableError, checked, place
from bearloop.client.views import EndpointStatus, EndpointView, PromotionView
from bearloop.client.waiting import JobFailedError, wait_until_ended


class Size(TypedDict, total=False):
    """How many servers an endpoint has, and how big they are."""

    replicas: int
    """Servers at least."""
    most_replicas: int | None
    """Servers at most, as many as their load needs; None: always `replicas`."""
    cpu: float | None
    """Cores of each server; None: what the operator set."""
    memory: str | None
    """Of each server, e.g. `1Gi`; None: what the operator set."""


class OutOfReachError(UnreachableError):
    """No connection comes about: the endpoint is down, or its name is known in its cluster only."""


class Endpoints:
    """The project's endpoints."""

    def __init__(self, connection: Connection, below: str) -> None:
        self._connection = connection
        self._path = f"{below}/endpoints"

    def create(
        self,
        name: str,
        *,
        public: bool = False,
        gates: Sequence[dict[str, Any]] = (),
        **size: Unpack[Size],
    ) -> EndpointView:
        """Make an endpoint; it answers once a run is promoted to it."""
        body = {"name": name, "public": public, "gates": list(gates), **size}
        return EndpointView.model_validate(self._connection.post(self._path, body))

    def get(self, name: str) -> EndpointView:
        """Return one endpoint."""
        return EndpointView.model_validate(self._connection.get(place(self._path, name)))

    def resize(self, name: str, **size: Unpack[Size]) -> EndpointView:
        """Give the endpoint other servers; what is not named stays. It takes a cluster."""
        return EndpointView.model_validate(self._connection.patch(place(self._path, name), size))

    def list(self) -> Iterator[EndpointView]:
        """Walk all endpoints."""
        return map(EndpointView.model_validate, self._connection.items(self._path))

    def status(self, name: str) -> EndpointStatus:
        """Return what should answer, and what really does."""
        return EndpointStatus.model_validate(
            self._connection.get(place(self._path, name, "status"))
        )

    def create_token(self, name: str, token_name: str) -> str:
        """Make a token that may ask the endpoint; this is the only time that it is shown."""
        answer = self._connection.post(place(self._path, name, "tokens"), {"name": token_name})
        return str(answer["secret"])

    def promote(self, name: str, run: int) -> PromotionView:
        """Begin to bring a run's bundle to the endpoint, through its gates."""
        path = place(self._path, name, "promotions")
        return PromotionView.model_validate(self._connection.post(path, {"run": run}))

    def rollback(self, name: str) -> PromotionView:
        """Begin to bring the bundle before back."""
        return PromotionView.model_validate(
            self._connection.post(place(self._path, name, "rollback"))
        )

    def promotion(self, name: str, number: int) -> PromotionView:
        """Return one promotion as it stands."""
        path = place(self._path, name, "promotions", number)
        return PromotionView.model_validate(self._connection.get(path))

    def wait_for_promotion(
        self, name: str, number: int, *, show: Callable[[PromotionView], None] | None = None
    ) -> PromotionView:
        """Wait until a promotion is live; raises JobFailedError when it is refused or fails."""
        ended = wait_until_ended(lambda: self.promotion(name, number), show=show)
        if ended.state not in {"live", "replaced"}:
            raise JobFailedError(f"promotion {number} of {name} {ended.state}: {ended.reason}")
        return ended

    def delete(self, name: str) -> None:
        """Remove an endpoint; nothing of it stays."""
        self._connection.delete(place(self._path, name))


def classify(url: str, picture: bytes, *, token: str | None = None) -> dict[str, Any]:
    """Ask a running endpoint for one picture's classes, most probable first."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.post(f"{url}/classify", content=picture, headers=headers, timeout=60)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise UnreachableError(f"{url} is no http address: {error}") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise OutOfReachError(f"nothing answers here at {url}: {error}") from error
    except httpx.TransportError as error:
        raise UnreachableError(f"the endpoint at {url} does not answer: {error}") from error
    classified: dict[str, Any] = checked(answer).json()
    return classified
