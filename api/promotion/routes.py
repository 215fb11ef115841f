"""Endpoints, their tokens, promotions and rollback."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api.access import ForbiddenError, Promoter, UnauthorisedError, Viewer
from api.database import Db
from api.errors import responses
from api.idempotency import IdempotentRoute
from api.paging import CursorText, Limit, Page
from api.promotion import endpoints, promotions, sizes, tokens
from api.promotion.endpoints import endpoint_view, entity_tag
from api.promotion.schemas import (
    EndpointChange,
    EndpointStatus,
    EndpointTokenView,
    EndpointView,
    MadeEndpointToken,
    NewEndpoint,
    NewEndpointToken,
    NewPromotion,
    PromotionView,
)
from api.runs.runs import UnknownRunError

ENDPOINTS = "/projects/{project}/endpoints"
ENDPOINT = ENDPOINTS + "/{endpoint}"

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["promotion"],
    responses=responses(UnauthorisedError, ForbiddenError, endpoints.EndpointNotFoundError),
)


@router.post(
    ENDPOINTS,
    status_code=201,
    responses=responses(endpoints.EndpointExistsError, sizes.SizeError),
)
def create_endpoint(
    caller: Promoter, session: Db, *, asked: NewEndpoint, request: Request, response: Response
) -> EndpointView:
    """Make an endpoint; it answers once a run is promoted to it."""
    settings = request.app.state.settings
    made = endpoints.create_endpoint(session, caller, asked, settings=settings)
    response.headers["ETag"] = entity_tag(made)
    return endpoint_view(made)


@router.get(ENDPOINTS)
def list_endpoints(
    caller: Viewer, session: Db, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[EndpointView]:
    """List the project's endpoints, by name."""
    return endpoints.list_endpoints(session, caller, cursor=cursor, limit=limit)


@router.get(ENDPOINT)
def show_endpoint(
    caller: Viewer, session: Db, endpoint: str, *, response: Response
) -> EndpointView:
    """Show an endpoint; its ETag guards a change of it."""
    found = endpoints.find_endpoint(session, caller, endpoint)
    response.headers["ETag"] = entity_tag(found)
    return endpoint_view(found)


@router.patch(ENDPOINT, responses=responses(endpoints.EndpointChangedError, sizes.SizeError))
def change_endpoint(
    caller: Promoter,
    session: Db,
    endpoint: str,
    *,
    asked: EndpointChange,
    request: Request,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> EndpointView:
    """Change gates or size; with If-Match, only if nobody changed the endpoint meanwhile.

    Servers of another size take over from those before without a dropped request.
    """
    changed = endpoints.change_endpoint(
        session,
        caller,
        endpoint,
        asked=asked,
        if_match=if_match,
        settings=request.app.state.settings,
    )
    response.headers["ETag"] = entity_tag(changed)
    return endpoint_view(changed)


@router.delete(ENDPOINT, status_code=204)
def delete_endpoint(caller: Promoter, session: Db, endpoint: str) -> None:
    """Remove the endpoint, its servers, tokens and promotions; the audit record stays."""
    endpoints.delete_endpoint(session, caller, endpoint)


@router.get(ENDPOINT + "/status")
def show_status(caller: Viewer, session: Db, endpoint: str) -> EndpointStatus:
    """Show what should answer, what really does, and the last promotions."""
    return promotions.endpoint_status(session, caller, endpoint)


@router.post(ENDPOINT + "/tokens", status_code=201)
def create_token(
    caller: Promoter, session: Db, endpoint: str, *, asked: NewEndpointToken
) -> MadeEndpointToken:
    """Make a token that may ask the endpoint; its secret is shown this once."""
    return tokens.create_token(session, caller, endpoint, asked=asked)


@router.get(ENDPOINT + "/tokens")
def list_tokens(
    caller: Promoter, session: Db, endpoint: str, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[EndpointTokenView]:
    """List the endpoint's tokens, without their secrets."""
    return tokens.list_tokens(session, caller, endpoint, cursor=cursor, limit=limit)


@router.delete(
    ENDPOINT + "/tokens/{token}",
    status_code=204,
    responses=responses(tokens.EndpointTokenNotFoundError),
)
def revoke_token(caller: Promoter, session: Db, endpoint: str, *, token: int) -> None:
    """Revoke a token; the endpoint's servers refuse it within seconds."""
    tokens.revoke_token(session, caller, endpoint, token_id=token)


@router.post(
    ENDPOINT + "/promotions",
    status_code=202,
    responses=responses(
        UnknownRunError,
        promotions.RunNotDoneError,
        promotions.NoTwinError,
        promotions.AlreadyLiveError,
        promotions.PromotionUnderWayError,
    ),
)
def promote(
    caller: Promoter, session: Db, endpoint: str, *, asked: NewPromotion, response: Response
) -> PromotionView:
    """Bring a run's bundle to the endpoint through its gates; Location is what to poll."""
    started = promotions.promote(session, caller, endpoint, run=asked.run)
    response.headers["Location"] = _location(caller, endpoint, started)
    return started


@router.get(ENDPOINT + "/promotions")
def list_promotions(
    caller: Viewer, session: Db, endpoint: str, *, cursor: CursorText = None, limit: Limit = 100
) -> Page[PromotionView]:
    """List the endpoint's promotions, newest first."""
    return promotions.list_promotions(session, caller, endpoint, cursor=cursor, limit=limit)


@router.get(
    ENDPOINT + "/promotions/{promotion}", responses=responses(promotions.PromotionNotFoundError)
)
def show_promotion(caller: Viewer, session: Db, endpoint: str, *, promotion: int) -> PromotionView:
    """Show a promotion: its state, and what every gate found."""
    return promotions.find_promotion(session, caller, endpoint, number=promotion)


@router.post(
    ENDPOINT + "/rollback",
    status_code=202,
    responses=responses(promotions.NothingToRestoreError, promotions.PromotionUnderWayError),
)
def roll_back(caller: Promoter, session: Db, endpoint: str, *, response: Response) -> PromotionView:
    """Go back to the bundle that was live before, without asking gates it passed already."""
    started = promotions.roll_back(session, caller, endpoint)
    response.headers["Location"] = _location(caller, endpoint, started)
    return started


def _location(caller: Promoter, endpoint: str, started: PromotionView) -> str:
    return f"/v1/projects/{caller.project}/endpoints/{endpoint}/promotions/{started.number}"
