"""The rule that turns an image's label events into its current label.

The SQL in `labels.py` does the same on sets; a test holds both together.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["claim", "label", "remove", "restore"]
State = Literal["labelled", "conflict"]


class Event(NamedTuple):
    """What one label event says."""

    kind: Kind
    class_id: int | None = None
    """Of a claim or a label."""


class LabelState(NamedTuple):
    """What an image's events amount to."""

    state: State
    class_id: int | None
    """None for a conflict."""
    removed: bool = False


def current_label(events: Iterable[Event]) -> LabelState | None:
    """Derive the state from the events in their order; None when none of them names a class.

    Sources claim: claims of one class make it the label, claims of several a conflict, in any
    order. Who labels decides: the last label stands, whatever sources claim later. Remove and
    restore switch, and touch no label.
    """
    claimed: set[int] = set()
    decided: int | None = None
    removed = False
    for event in events:
        match event.kind:
            case "claim":
                claimed.add(_named(event))
            case "label":
                decided = _named(event)
            case "remove" | "restore":
                removed = event.kind == "remove"
    if decided is not None:
        return LabelState("labelled", decided, removed)
    if not claimed:
        return None
    if len(claimed) > 1:
        return LabelState("conflict", None, removed)
    return LabelState("labelled", claimed.pop(), removed)


def _named(event: Event) -> int:
    if event.class_id is None:
        raise ValueError(f"a {event.kind} that names no class")
    return event.class_id
