"""What a decision comes to when the review closes: an event, nothing, or a conflict to report."""

from enum import StrEnum
from typing import NamedTuple

from api.label_state import Kind, LabelState


class Said(NamedTuple):
    """A decision, and the label that the reviewer saw when taking it."""

    verb: str
    class_id: int | None
    """Of a relabel."""
    seen: int | None
    """Class id; None for a conflict."""


class Outcome(StrEnum):
    """What becomes of a decision."""

    write = "write"
    """The label is still the one seen: the event is written."""
    stands = "stands"
    """Somebody did the same since: nothing to write, and the decision holds."""
    nothing = "nothing"
    """Unsure changes nothing."""
    changed = "changed"
    """The label was changed since into something else: the decision is reported, not written."""


def settle(said: Said, now: LabelState) -> Outcome:
    """Guard a decision by what the reviewer saw; `now` is the image's label at closing."""
    if said.verb == "unsure":
        return Outcome.nothing
    if now == _wished(said, now):
        # A kept label is written all the same: that somebody looked outlives later claims.
        return Outcome.write if said.verb == "keep" else Outcome.stands
    same = not now.removed and now.class_id == said.seen
    return Outcome.write if same else Outcome.changed


def event_of(said: Said) -> tuple[Kind, int | None]:
    """Return the label event that says it."""
    if said.verb == "remove":
        return "remove", None
    return "label", said.seen if said.verb == "keep" else said.class_id


def _wished(said: Said, now: LabelState) -> LabelState:
    if said.verb == "remove":
        return now._replace(removed=True)
    return LabelState("labelled", said.seen if said.verb == "keep" else said.class_id)
