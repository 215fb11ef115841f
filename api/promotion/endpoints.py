"""Endpoints: made, found, changed, watched and removed."""

import hashlib
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.bell import ring
from api.errors import ApiError, ConflictError, NotFoundError
from api.paging import Page, after_text, make_page
from api.promotion.gates import Gate, with_parity
from api.promotion.schemas import EndpointChange, EndpointView, NewEndpoint
from api.promotion.sizes import Size, check_size
from api.settings import Settings
from api.tables import Endpoint

GATES: TypeAdapter[list[Gate]] = TypeAdapter(list[Gate])


class EndpointExistsError(ConflictError):
    """The project has an endpoint of this name."""

    code = "endpoint_exists"
    title = "Endpoint exists"


class EndpointNotFoundError(NotFoundError):
    """The project has no endpoint of this name."""

    code = "endpoint_not_found"
    title = "Endpoint not found"


class EndpointChangedError(ApiError):
    """Somebody changed the endpoint since the caller read it."""

    status = 412
    code = "endpoint_changed"
    title = "Endpoint changed"


def create_endpoint(
    session: Session, caller: Caller, asked: NewEndpoint, *, settings: Settings
) -> Endpoint:
    """Make an endpoint that serves nothing yet."""
    size = _size_of(asked)
    check_size(size, on_cluster=settings.cluster != "processes")
    made: Endpoint | None = session.scalar(
        insert(Endpoint)
        .values(
            project_id=caller.project_id,
            name=asked.name,
            public=asked.public,
            gates=_stored(asked.gates),
            **size.model_dump(),
            created_by=caller.name,
        )
        .on_conflict_do_nothing()
        .returning(Endpoint)
    )
    if made is None:
        raise EndpointExistsError(
            f"there is an endpoint {asked.name!r}, or one that is still being removed",
            field="name",
            value=asked.name,
            way_out="choose another name; after DELETE wait some seconds for its servers to end",
        )
    told = {"public": asked.public, **size.model_dump(exclude_defaults=True)}
    audit.record(session, caller, "endpoint.create", target=_path(made), **told)
    return made


def list_endpoints(
    session: Session, caller: Caller, *, cursor: str | None, limit: int
) -> Page[EndpointView]:
    """List the project's endpoints by name."""
    after = after_text(cursor)
    query = select(Endpoint).where(
        Endpoint.project_id == caller.project_id, Endpoint.deleted_at.is_(None)
    )
    if after is not None:
        query = query.where(Endpoint.name > after)
    rows = session.scalars(query.order_by(Endpoint.name).limit(limit + 1)).all()
    return make_page(rows, limit=limit, key=lambda row: [row.name], item=endpoint_view)


def find_endpoint(session: Session, caller: Caller, name: str, *, lock: bool = False) -> Endpoint:
    """Find an endpoint; `lock` makes every other change of it wait for this transaction."""
    query = select(Endpoint).where(
        Endpoint.project_id == caller.project_id,
        Endpoint.name == name,
        Endpoint.deleted_at.is_(None),
    )
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise EndpointNotFoundError(
            f"no endpoint {name!r} in {caller.project}",
            field="endpoint",
            value=name,
            way_out=f"GET /v1/projects/{caller.project}/endpoints lists them",
        )
    return found


def change_endpoint(
    session: Session,
    caller: Caller,
    name: str,
    *,
    asked: EndpointChange,
    if_match: str | None,
    settings: Settings,
) -> Endpoint:
    """Give the endpoint other gates or another size, unless it changed since the caller read it."""
    endpoint = find_endpoint(session, caller, name, lock=True)
    if if_match is not None and if_match.strip() not in ("*", entity_tag(endpoint)):
        raise EndpointChangedError(
            f"endpoint {name!r} is not as it was when you read it",
            field="If-Match",
            value=if_match,
            way_out="GET it again, and send its new ETag as If-Match",
        )
    sent = asked.model_dump(exclude_unset=True, exclude={"gates"})
    if "gates" in asked.model_fields_set:
        _change_gates(session, caller, endpoint, gates=asked.gates)
    if sent:
        check_size(
            Size.model_validate(_size_of(endpoint).model_dump() | sent),
            on_cluster=settings.cluster != "processes",
        )
        _resize(session, caller, endpoint, sent=sent)
    return endpoint


def delete_endpoint(session: Session, caller: Caller, name: str) -> None:
    """Have the endpoint removed with its servers, tokens and promotions; the record stays."""
    endpoint = find_endpoint(session, caller, name, lock=True)
    endpoint.deleted_at = func.now()
    wake(session, endpoint)
    audit.record(
        session, caller, "endpoint.delete", target=_path(endpoint), bundle=endpoint.bundle_digest
    )


def wake(session: Session, endpoint: Endpoint) -> None:
    """Have the worker look at the endpoint now."""
    endpoint.due_at = func.now()
    ring(session)


def entity_tag(endpoint: Endpoint) -> str:
    """Return the ETag over what a caller can change."""
    content = NewEndpoint(
        name=endpoint.name,
        public=endpoint.public,
        gates=GATES.validate_python(endpoint.gates),
        **_size_of(endpoint).model_dump(),
    )
    return f'"{hashlib.sha256(content.model_dump_json().encode()).hexdigest()[:32]}"'


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    """Show an endpoint."""
    return EndpointView(
        name=endpoint.name,
        public=endpoint.public,
        gates=GATES.validate_python(endpoint.gates),
        **_size_of(endpoint).model_dump(),
        bundle=endpoint.bundle_digest,
        ready=endpoint.ready,
        url=endpoint.url,
        created_at=endpoint.created_at,
        created_by=endpoint.created_by,
    )


def _change_gates(
    session: Session, caller: Caller, endpoint: Endpoint, *, gates: list[Gate]
) -> None:
    before, endpoint.gates = endpoint.gates, _stored(gates)
    told = {"before": before, "after": endpoint.gates}
    audit.record(session, caller, "endpoint.change_gates", target=_path(endpoint), **told)


def _resize(session: Session, caller: Caller, endpoint: Endpoint, *, sent: dict[str, Any]) -> None:
    before = _size_of(endpoint).model_dump(include=set(sent))
    for field, value in sent.items():
        setattr(endpoint, field, value)
    wake(session, endpoint)
    told = {"before": before, "after": sent}
    audit.record(session, caller, "endpoint.resize", target=_path(endpoint), **told)


def _size_of(thing: Endpoint | NewEndpoint) -> Size:
    return Size(**{field: getattr(thing, field) for field in Size.model_fields})


def _stored(gates: list[Gate]) -> list[dict[str, object]]:
    return [gate.model_dump(mode="json") for gate in with_parity(gates)]


def _path(endpoint: Endpoint) -> str:
    return f"endpoints/{endpoint.name}"
