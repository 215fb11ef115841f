"""One class per way to fail, and how each becomes problem+json (RFC 9457)."""

from typing import Any, ClassVar

import psycopg
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg.errors import NumericValueOutOfRange, UntranslatableCharacter
from pydantic import BaseModel
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from api.refused_fields import place_of
from api.ways_out import way_out


class Problem(BaseModel):
    """The body of every error, as `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """Stable; programs may match it."""
    detail: str
    field: str | None = None
    value: Any = None
    way_out: str | None = None
    errors: list[dict[str, Any]] | None = None
    """One entry per wrong field of a payload: `field`, `detail`, `value`, `way_out`."""


class ApiError(Exception):
    """Something the caller can do something about; a subclass per way to fail."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "Bad request"

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        value: object = None,
        way_out: str | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.value = value
        self.way_out = way_out
        self.errors = errors


class NotFoundError(ApiError):
    """No such object, or none that this caller may know of."""

    status = 404
    code = "not_found"
    title = "Not found"


class ConflictError(ApiError):
    """The object is in a state that does not allow this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class UnprocessableError(ApiError):
    """The payload is well formed and names something that does not work."""

    status = 422
    code = "unprocessable"
    title = "Unprocessable"


def install(app: FastAPI) -> None:
    """Make every error of the app leave as problem+json."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DataError, _unkeepable)
    app.add_exception_handler(psycopg.DataError, _unkeepable)
    app.add_exception_handler(Exception, _unexpected)


def responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Declare a route's errors for OpenAPI."""
    declared: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        known = declared.setdefault(error.status, {"model": Problem, "description": ""})
        known["description"] = ", ".join(filter(None, [known["description"], error.code]))
    return declared


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Render a problem."""
    return JSONResponse(
        jsonable_encoder(problem.model_dump(exclude_none=True)),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    problem = Problem(
        title=error.title,
        status=error.status,
        code=error.code,
        detail=error.detail,
        field=error.field,
        value=error.value,
        way_out=error.way_out,
        errors=error.errors,
    )
    return problem_response(
        problem, {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    )


def _malformed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    entries = [
        {
            "field": _field(entry, error.body),
            "detail": entry.get("ctx", {}).get("detail", entry["msg"]),
            "value": _short(entry.get("input")),
            "way_out": way_out(entry),
        }
        for entry in error.errors()
    ]
    first = entries[0]
    problem = Problem(
        title="Malformed request",
        status=422,
        code="malformed",
        detail=f"{first['field']}: {first['detail']}",
        field=str(first["field"]),
        value=first["value"],
        way_out="send what the description of this operation asks for, at /docs",
        errors=entries,
    )
    return problem_response(problem)


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 400:  # FastAPI could not parse the body
        problem = Problem(
            title="Malformed request",
            status=400,
            code="malformed",
            detail=detail,
            field="body",
            way_out="send what the description of this operation asks for, at /docs",
        )
    else:
        problem = Problem(
            title=detail,
            status=error.status_code,
            code=detail.lower().replace(" ", "_"),
            detail=detail,
            field="path",
            way_out="GET /openapi.json lists the operations",
        )
    return problem_response(problem, dict(error.headers or {}))


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again after this answer, so that the server logs the traceback.
    problem = Problem(
        title="Internal error",
        status=500,
        code="internal_error",
        detail=f"{type(error).__name__} inside bearloop; nothing was changed",
        way_out="send the request again; if it stays, show the operator the API's log",
    )
    return problem_response(problem)


def _unkeepable(_: Request, error: Exception) -> JSONResponse:
    """What PostgreSQL can neither keep nor compare is the request's fault."""
    cause = error.orig if isinstance(error, DataError) else error
    if isinstance(cause, NumericValueOutOfRange):
        detail = "a number of the request is larger than PostgreSQL can count"
        way_out = "send numbers that the API gave out"
    elif "NUL (0x00)" in str(cause) or isinstance(cause, UntranslatableCharacter):
        detail = "a text of the request holds a NUL character, which PostgreSQL cannot keep"
        way_out = "leave the character U+0000 out"
    else:
        raise error
    problem = Problem(
        title="Malformed request",
        status=422,
        code="malformed",
        detail=detail,
        field="request",
        way_out=way_out,
    )
    return problem_response(problem)


def _field(entry: dict[str, Any], body: object) -> str:
    """Name a field as it was posted, below `body`, `query` or `path`."""
    where, *below = entry["loc"]
    if where == "body":
        below = list(place_of({**entry, "loc": below}, body))
    return ".".join(str(part) for part in (where, *below))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
