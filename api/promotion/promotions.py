"""Promotions: asked for, looked at, taken back; the worker brings them about."""

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from api import audit
from api.access import Caller
from api.errors import ConflictError, NotFoundError
from api.paging import Page, after_number, make_page
from api.promotion.endpoints import find_endpoint, wake
from api.promotion.schemas import EndpointStatus, PromotionView
from api.promotion.states import (
    SERVED,
    UNFINISHED,
    PromotionState,
    Served,
    promotion_to_restore,
)
from api.runs.runs import find_run
from api.runs.twin_search import find_twin, full_run
from api.runs.twins import way_to_twin
from api.tables import Endpoint, JobState, Promotion, Run
from api.tokens import new_token

LAST = 5
"""Promotions that the status shows."""


class PromotionNotFoundError(NotFoundError):
    """The endpoint has no promotion of this number."""

    code = "promotion_not_found"
    title = "Promotion not found"


class RunNotDoneError(ConflictError):
    """Only a run that is done has a bundle."""

    code = "run_not_done"
    title = "Run not done"


class NoTwinError(ConflictError):
    """A run on all images is judged by its twin, whose splits were kept; none is done."""

    code = "no_twin"
    title = "No twin"


class AlreadyLiveError(ConflictError):
    """The run's bundle is what the endpoint serves."""

    code = "already_live"
    title = "Already live"


class PromotionUnderWayError(ConflictError):
    """An endpoint has one promotion at a time."""

    code = "promotion_under_way"
    title = "Promotion under way"


class NothingToRestoreError(ConflictError):
    """No other bundle was live before this one."""

    code = "nothing_to_restore"
    title = "Nothing to roll back to"


def promote(session: Session, caller: Caller, name: str, *, run: int) -> PromotionView:
    """Start to bring a run's bundle to the endpoint, through its gates."""
    endpoint = find_endpoint(session, caller, name, lock=True)
    found, digest = _promotable(session, caller, run)
    _refuse_second(session, endpoint)
    if digest == endpoint.bundle_digest:
        raise AlreadyLiveError(
            f"the bundle of run {run} is what {name!r} serves",
            field="run",
            value=run,
            way_out=f"nothing is left to do; GET …/endpoints/{name}/status shows it",
        )
    promotion = Promotion(run_id=found.id, bundle_digest=digest, state=PromotionState.checking)
    return _start(session, caller, endpoint, promotion=promotion, action="endpoint.promote")


def roll_back(session: Session, caller: Caller, name: str) -> PromotionView:
    """Start to go back to the bundle that was live before; it passed its gates already."""
    endpoint = find_endpoint(session, caller, name, lock=True)
    _refuse_second(session, endpoint)
    served = {p.number: p for p in session.scalars(_of(endpoint, *SERVED))}
    number = promotion_to_restore(
        Served(p.number, p.rollback_of is not None) for p in served.values()
    )
    live = next((p for p in served.values() if p.state == PromotionState.live), None)
    if number is None or live is None:
        raise NothingToRestoreError(
            f"no other bundle was live on {name!r} before",
            field="endpoint",
            value=name,
            way_out=f"promote another run at POST …/endpoints/{name}/promotions",
        )
    promotion = Promotion(
        run_id=served[number].run_id,
        bundle_digest=served[number].bundle_digest,
        state=PromotionState.rolling_out,
        rollback_of=live.id,
    )
    return _start(session, caller, endpoint, promotion=promotion, action="endpoint.roll_back")


def list_promotions(
    session: Session, caller: Caller, name: str, *, cursor: str | None, limit: int
) -> Page[PromotionView]:
    """List the endpoint's promotions, newest first."""
    endpoint = find_endpoint(session, caller, name)
    after = after_number(cursor)
    query = _shown(endpoint)
    if after is not None:
        query = query.where(Promotion.number < after)
    rows = session.execute(query.limit(limit + 1)).all()
    return make_page(
        rows, limit=limit, key=lambda row: [row[0].number], item=lambda row: _view(*row)
    )


def find_promotion(session: Session, caller: Caller, name: str, *, number: int) -> PromotionView:
    """Find one promotion of an endpoint."""
    endpoint = find_endpoint(session, caller, name)
    query = _shown(endpoint).where(Promotion.number == number)
    row = session.execute(query).one_or_none()
    if row is None:
        raise PromotionNotFoundError(
            f"endpoint {name!r} has no promotion {number}",
            field="promotion",
            value=number,
            way_out=f"GET /v1/projects/{caller.project}/endpoints/{name}/promotions lists them",
        )
    return _view(*row)


def endpoint_status(session: Session, caller: Caller, name: str) -> EndpointStatus:
    """Show what should answer, what does, and what happened last."""
    endpoint = find_endpoint(session, caller, name)
    rows = session.execute(_shown(endpoint).limit(LAST))
    return EndpointStatus(
        name=endpoint.name,
        should_serve=endpoint.bundle_digest,
        serves=endpoint.serving_digest,
        ready=endpoint.ready,
        url=endpoint.url,
        reason=endpoint.reason,
        promotions=[_view(*row) for row in rows],
    )


def _promotable(session: Session, caller: Caller, number: int) -> tuple[Run, str]:
    parts = find_run(session, caller, number)
    run, state = parts.run, JobState(parts.job.state)
    if state is not JobState.done or run.bundle_digest is None:
        raise RunNotDoneError(
            f"run {number} is {state.value}; only a run that is done has a bundle",
            field="run",
            value=number,
            way_out="wait until the run is done, or promote another one",
        )
    recipe = parts.spec.recipe
    if recipe.train_on == "all" and find_twin(session, run, recipe) is None:
        raise NoTwinError(
            f"run {number} was trained on all images of version {parts.version.number}, so no gate "
            "can judge it: its twin does, and none is done",
            field="run",
            value=number,
            way_out=way_to_twin(full_run(run, parts.version, parts.dataset), None),
        )
    return run, run.bundle_digest


def _refuse_second(session: Session, endpoint: Endpoint) -> None:
    other = session.scalar(_of(endpoint, *UNFINISHED))
    if other is not None:
        raise PromotionUnderWayError(
            f"promotion {other.number} of {endpoint.name!r} is {other.state}",
            field="endpoint",
            value=endpoint.name,
            way_out=f"wait for it: GET …/endpoints/{endpoint.name}/promotions/{other.number}",
        )


def _start(
    session: Session,
    caller: Caller,
    endpoint: Endpoint,
    *,
    promotion: Promotion,
    action: audit.Action,
) -> PromotionView:
    # The endpoint is locked, so no other transaction takes this number.
    newest = select(func.coalesce(func.max(Promotion.number), 0))
    newest = newest.where(Promotion.endpoint_id == endpoint.id)
    promotion.endpoint_id = endpoint.id
    promotion.number = session.scalars(newest).one() + 1
    promotion.created_by = caller.name
    promotion.probe_token = new_token()
    session.add(promotion)
    session.flush()
    wake(session, endpoint)
    shown = find_promotion(session, caller, endpoint.name, number=promotion.number)
    target = f"endpoints/{endpoint.name}/promotions/{promotion.number}"
    audit.record(session, caller, action, target=target, run=shown.run, bundle=shown.bundle)
    return shown


def _of(endpoint: Endpoint, *states: PromotionState) -> Select[Promotion]:
    return select(Promotion).where(
        Promotion.endpoint_id == endpoint.id, Promotion.state.in_(states)
    )


def _shown(endpoint: Endpoint) -> Select[Promotion, int, int]:
    taken_back = aliased(Promotion)
    return (
        select(Promotion, Run.number, taken_back.number)
        .join(Run, Run.id == Promotion.run_id)
        .outerjoin(taken_back, taken_back.id == Promotion.rollback_of)
        .where(Promotion.endpoint_id == endpoint.id)
        .order_by(Promotion.number.desc())
    )


def _view(promotion: Promotion, run: int, rollback_of: int | None) -> PromotionView:
    return PromotionView(
        number=promotion.number,
        run=run,
        bundle=promotion.bundle_digest,
        state=PromotionState(promotion.state),
        results=promotion.results,
        reason=promotion.reason,
        rollback_of=rollback_of,
        created_at=promotion.created_at,
        created_by=promotion.created_by,
        finished_at=promotion.finished_at,
    )
