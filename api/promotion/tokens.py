"""An endpoint's tokens: made once, shown once, checked by its servers without the API."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.errors import NotFoundError
from api.paging import Page, after_number, make_page
from api.promotion.endpoints import find_endpoint, wake
from api.promotion.schemas import EndpointTokenView, MadeEndpointToken, NewEndpointToken
from api.tables import EndpointToken
from api.tokens import new_token, token_hash


class EndpointTokenNotFoundError(NotFoundError):
    """The endpoint has no such token."""

    code = "endpoint_token_not_found"
    title = "Endpoint token not found"


def create_token(
    session: Session, caller: Caller, endpoint: str, *, asked: NewEndpointToken
) -> MadeEndpointToken:
    """Make a token; the servers know it after their next reconciliation, within seconds."""
    owner = find_endpoint(session, caller, endpoint, lock=True)
    secret = new_token()
    token = EndpointToken(
        endpoint_id=owner.id,
        name=asked.name,
        hash=token_hash(secret).hex(),
        created_by=caller.name,
    )
    session.add(token)
    session.flush()
    session.refresh(token)
    wake(session, owner)
    _record(session, caller, "endpoint_token.create", endpoint=endpoint, token=token)
    return MadeEndpointToken(**_view(token).model_dump(), secret=secret)


def list_tokens(
    session: Session, caller: Caller, endpoint: str, *, cursor: str | None, limit: int
) -> Page[EndpointTokenView]:
    """List the endpoint's tokens, revoked ones too, in the order they were made."""
    owner = find_endpoint(session, caller, endpoint)
    after = after_number(cursor)
    query = select(EndpointToken).where(EndpointToken.endpoint_id == owner.id)
    if after is not None:
        query = query.where(EndpointToken.id > after)
    rows = session.scalars(query.order_by(EndpointToken.id).limit(limit + 1)).all()
    return make_page(rows, limit=limit, key=lambda row: [row.id], item=_view)


def revoke_token(session: Session, caller: Caller, endpoint: str, *, token_id: int) -> None:
    """Revoke a token; revoking again changes nothing."""
    owner = find_endpoint(session, caller, endpoint, lock=True)
    token = session.get(EndpointToken, token_id)
    if token is None or token.endpoint_id != owner.id:
        raise EndpointTokenNotFoundError(
            f"endpoint {endpoint!r} has no token {token_id}",
            field="token",
            value=token_id,
            way_out=f"GET /v1/projects/{caller.project}/endpoints/{endpoint}/tokens lists them",
        )
    if token.revoked_at is not None:
        return
    token.revoked_at = func.now()
    wake(session, owner)
    _record(session, caller, "endpoint_token.revoke", endpoint=endpoint, token=token)


def _record(
    session: Session, caller: Caller, action: audit.Action, *, endpoint: str, token: EndpointToken
) -> None:
    target = f"endpoints/{endpoint}/tokens/{token.id}"
    audit.record(session, caller, action, target=target, name=token.name)


def _view(token: EndpointToken) -> EndpointTokenView:
    return EndpointTokenView(
        id=token.id,
        name=token.name,
        created_at=token.created_at,
        created_by=token.created_by,
        revoked_at=token.revoked_at,
    )
