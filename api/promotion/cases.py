"""A claimed endpoint with all that a step needs of the database, and what the step writes back."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from api import leases
from api.merged_classes import merged_classes
from api.promotion.measured import NOT_MEASURED, Measured, measured
from api.promotion.states import UNFINISHED, PromotionState
from api.settings import Settings
from api.tables import Endpoint, EndpointToken, Project, Promotion, Report, Run, Version
from api.tokens import token_hash


@dataclass(frozen=True)
class Case:
    """One endpoint under the worker's claim."""

    endpoint: Endpoint
    unfinished: Promotion | None
    live: Promotion | None
    token_hashes: tuple[str, ...]
    """Hex; of the tokens that may ask, the worker's own among them."""
    project: str
    """Its name."""
    report: Report | None = None
    """Of the unfinished promotion's run."""
    challenger: Measured = NOT_MEASURED
    """What may be evidence of how good that run's model is."""
    champion: Measured = NOT_MEASURED
    """The same of the live promotion's run."""
    class_names: dict[int, str] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    """Of each merged class of the dataset, the one that it is part of now, by id."""
    overdue: bool = False
    """The unfinished promotion is past its deadline."""
    abandoned: bool = False
    """It is long past, so steps must have failed again and again."""


@dataclass(frozen=True)
class Outcome:
    """What a step found: columns to write, and when to look again."""

    endpoint: dict[str, Any]
    due_in: timedelta
    promotion: dict[str, Any] = field(default_factory=dict)
    """Of the unfinished one."""


def claim_case(session: Session, *, owner: str, settings: Settings) -> Case | None:
    """Claim the endpoint that is due longest, and load it; None when none is due.

    The endpoint's claim covers its promotions too: only one worker at a time acts on its name.
    """
    always = Endpoint.id.is_not(None)
    endpoint = leases.claim(session, Endpoint, owner=owner, lease=settings.lease, where=always)
    if endpoint is None:
        return None
    unfinished = session.scalar(_promotions(endpoint, *UNFINISHED))
    live = session.scalar(_promotions(endpoint, PromotionState.live))
    project = session.scalars(select(Project.name).where(Project.id == endpoint.project_id)).one()
    hashes = _hashes(session, endpoint.id)
    case = Case(endpoint, unfinished, live, token_hashes=hashes, project=project)
    return (
        case
        if unfinished is None
        else _with_promotion(session, case, unfinished, settings=settings)
    )


def apply_outcome(session: Session, case: Case, outcome: Outcome) -> bool:
    """Write the outcome and give the endpoint back; False, and nothing, when the claim is void."""
    endpoint = case.endpoint
    if not leases.apply(session, endpoint, changes=outcome.endpoint, due_in=outcome.due_in):
        return False
    if case.unfinished is not None and outcome.promotion:
        if outcome.promotion.get("state") == PromotionState.live:
            _replace_live(session, endpoint)
        mine = update(Promotion).where(Promotion.id == case.unfinished.id)
        session.execute(mine.values(**outcome.promotion))
    return True


def forget_endpoint(session: Session, case: Case) -> bool:
    """Delete the endpoint's rows; False, and nothing, when the claim is void."""
    if not leases.apply(session, case.endpoint, changes={}):
        return False
    endpoint_id = case.endpoint.id
    session.execute(delete(Promotion).where(Promotion.endpoint_id == endpoint_id))
    session.execute(delete(EndpointToken).where(EndpointToken.endpoint_id == endpoint_id))
    session.execute(delete(Endpoint).where(Endpoint.id == endpoint_id))
    return True


def _with_promotion(
    session: Session, case: Case, promotion: Promotion, *, settings: Settings
) -> Case:
    age = func.now() - Promotion.moved_at
    late = (age > settings.roll_out, age > settings.roll_out + 3 * settings.lease)
    overdue, abandoned = session.execute(select(*late).where(Promotion.id == promotion.id)).one()
    versions = select(Version).join(Run, Run.version_id == Version.id)
    version = session.scalars(versions.where(Run.id == promotion.run_id)).one()
    return replace(
        case,
        report=session.get(Report, promotion.run_id),
        challenger=measured(session, promotion.run_id),
        champion=measured(session, case.live.run_id) if case.live else NOT_MEASURED,
        class_names={entry["id"]: entry["name"] for entry in version.classes},
        merged=merged_classes(session, version.dataset_id),
        overdue=overdue,
        abandoned=abandoned,
    )


def _promotions(endpoint: Endpoint, *states: PromotionState) -> Select[Promotion]:
    return select(Promotion).where(
        Promotion.endpoint_id == endpoint.id, Promotion.state.in_(states)
    )


def _hashes(session: Session, endpoint_id: int) -> tuple[str, ...]:
    given_out = select(EndpointToken.hash).where(
        EndpointToken.endpoint_id == endpoint_id, EndpointToken.revoked_at.is_(None)
    )
    own = select(Promotion.probe_token).where(
        Promotion.endpoint_id == endpoint_id, Promotion.probe_token.is_not(None)
    )
    probes = (token_hash(token).hex() for token in session.scalars(own) if token)
    return (*session.scalars(given_out), *probes)


def _replace_live(session: Session, endpoint: Endpoint) -> None:
    replaced = update(Promotion).where(
        Promotion.endpoint_id == endpoint.id, Promotion.state == PromotionState.live
    )
    session.execute(replaced.values(state=PromotionState.replaced, probe_token=None))
