"""A run's searches of a rate: what each found, and the picture of it that the trainer drew."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from api.access import Caller
from api.errors import NotFoundError
from api.jobs.mailbox import Mailbox
from api.jobs.states import JobState
from api.runs.runs import find_run
from api.runs.schemas import RunParts
from bearloop.contract.runs import LR_FINDER_FILE, Curves, LrFind, LrFinds, lr_picture_file
from bearloop.store import MissingObjectError, Store


class NoSearchError(NotFoundError):
    """The run searches no rate before this stage, or has not ended that search yet."""

    code = "no_search"
    title = "No search of a rate"


class NoPictureError(NotFoundError):
    """The search is older than its picture: its points are there."""

    code = "no_picture"
    title = "No picture"


def read_lr_finds(session: Session, caller: Caller, number: int, *, store: Store) -> LrFinds:
    """Return what the run's lr-find stages found so far; none where it has no such stage."""
    return LrFinds(finds=_searched(find_run(session, caller, number), store).finds)


def read_lr_picture(
    session: Session, caller: Caller, number: int, *, stage: str | None, store: Store
) -> bytes:
    """Return the PNG of the search before a stage, of the first search where none is named.

    Raises NoSearchError or NoPictureError.
    """
    parts = find_run(session, caller, number)
    searched = _searched(parts, store)
    named = [find.stage for find in searched.finds if stage in (None, find.stage)]
    if not named:
        raise _no_search(parts, stage, ended=[find.stage for find in searched.finds])
    try:
        return store.get(searched.place + lr_picture_file(named[0]))
    except MissingObjectError as error:
        raise NoPictureError(
            f"run {number} searched a rate before {named[0]!r}, and left no picture of it: it is "
            "older than those",
            field="stage",
            value=named[0],
            way_out=f"GET …/runs/{number}/lr-finder has the points and what they suggest",
        ) from error


class _Searched(NamedTuple):
    """The searches that have ended."""

    finds: tuple[LrFind, ...]
    place: str
    """Prefix of the attempt that has their pictures."""


def _searched(parts: RunParts, store: Store) -> _Searched:
    """Read them of the attempt that did the run; until it is done, of the newest that has any."""
    curves = parts.run.curves_key
    if curves is not None:
        known = Curves.model_validate_json(store.get(curves))
        return _Searched(known.lr_finds, "".join(curves.rpartition("/")[:2]))
    # A run that goes on, or that found no rate and ended with that.
    mailbox = Mailbox(store, str(parts.job.id))
    place = mailbox.place_of(LR_FINDER_FILE, newest=parts.job.attempt)
    if place is None:
        return _Searched((), "")
    return _Searched(LrFinds.model_validate_json(store.get(place + LR_FINDER_FILE)).finds, place)


def _no_search(parts: RunParts, stage: str | None, *, ended: list[str]) -> NoSearchError:
    """Say which stages have a search, and whether it is only too early."""
    number, state, recipe = parts.run.number, parts.job.state, parts.spec.recipe
    planned = [fit.name for search, fit in recipe.fits() if search is not None]
    have = ", ".join(planned)
    if not planned:
        return NoSearchError(
            f"run {number} searches no rate: its recipe has no lr-find stage",
            field="recipe",
            value=recipe.name,
            way_out='bearloop train DATASET --lr auto, or "lr": "auto" in POST …/runs',
        )
    if stage is not None and stage not in planned:
        return NoSearchError(
            f"run {number} has no search before {stage!r}; it has one before: {have}",
            field="stage",
            value=stage,
            way_out=f"give one of {have}, or no stage: the first search is shown then",
        )
    missing = stage or planned[0]
    there = f"; there is the search before: {', '.join(ended)}" if ended else ""
    if JobState(state).is_terminal:
        detail = f"run {number} is {state}, and ended before its search before {missing!r} did"
        way_out = f"GET …/runs/{number} says why it ended{there}"
    else:
        detail = f"run {number} is {state}: its search before {missing!r} has not ended yet"
        way_out = f"ask again later; GET …/runs/{number} says how far it is{there}"
    return NoSearchError(detail, field="state", value=str(state), way_out=way_out)
