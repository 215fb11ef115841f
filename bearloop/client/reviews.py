"""Reviews: claim a screen, decide, undo, close."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bearloop.client.connection import Connection, place
from bearloop.client.views import ClosedView, ReviewView, ScreenView

Verb = Literal["keep", "relabel", "remove", "unsure"]


@dataclass(frozen=True)
class Decision:
    """What a reviewer says of one image."""

    sha256: str
    verb: Verb
    label: str | None = None
    """The right class; with `relabel` only."""


class Reviews:
    """The project's reviews."""

    def __init__(self, connection: Connection, below: str) -> None:
        self._connection = connection
        self._path = f"{below}/reviews"

    def open(
        self, run: int, *, order: str = "label_issue", limit: int = 10_000, screen_size: int = 5
    ) -> ReviewView:
        """Make a queue over a run's report."""
        body = {"run": run, "order": order, "limit": limit, "screen_size": screen_size}
        return ReviewView.model_validate(self._connection.post(self._path, body))

    def get(self, number: int) -> ReviewView:
        """Return one review."""
        return ReviewView.model_validate(self._connection.get(place(self._path, number)))

    def list(self) -> Iterator[ReviewView]:
        """Walk all reviews."""
        return map(ReviewView.model_validate, self._connection.items(self._path))

    def claim(self, number: int) -> ScreenView:
        """Claim the next screen; one's open screen comes first."""
        return ScreenView.model_validate(self._connection.post(place(self._path, number, "claim")))

    def decide(self, number: int, screen: str, decisions: Sequence[Decision]) -> None:
        """Decide on images of a screen, all of these or none."""
        asked = [_asked(decision) for decision in decisions]
        path = place(self._path, number, "screens", screen, "decisions")
        self._connection.post(path, {"decisions": asked})

    def undo(self, number: int, *, count: int = 1) -> None:
        """Take back one's last decisions."""
        self._connection.post(place(self._path, number, "undo"), {"count": count})

    def release(self, number: int) -> None:
        """Give one's open screen back."""
        self._connection.post(place(self._path, number, "release"))

    def progress(self, number: int) -> dict[str, Any]:
        """Return how far the review is, and whether it may stop, as the API gives it."""
        answer: dict[str, Any] = self._connection.get(place(self._path, number, "progress"))
        return answer

    def close(self, number: int, *, retrain: bool = False) -> ClosedView:
        """Close: decisions become label events and a cleaned version; it can be retrained on."""
        path = place(self._path, number, "close")
        return ClosedView.model_validate(self._connection.post(path, {"retrain": retrain}))


def _asked(decision: Decision) -> dict[str, str]:
    asked = {"sha256": decision.sha256, "verb": decision.verb}
    return asked if decision.label is None else {**asked, "class": decision.label}
