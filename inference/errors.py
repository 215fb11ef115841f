"""One class per way to refuse a request, told as problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import ClassVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bearloop.fetch import FetchError
from bearloop.preprocess import PictureError


class RefusalError(Exception):
    """A request that is not served; `code` is stable, `detail` names the way out."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the answer."""
        return {}


class MalformedError(RefusalError):
    """The request's body or parameters do not have the form that the route takes."""

    code = "malformed"


class UnauthorisedError(RefusalError):
    """No token, or none that is valid here."""

    status = 401
    code = "unauthorised"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotOfferedError(RefusalError):
    """This endpoint does not fetch addresses."""

    status = 403
    code = "classify_url_off"


class UnknownModelError(RefusalError):
    """The server has one model, and it is not this one."""

    status = 404
    code = "unknown_model"


class SlowBodyError(RefusalError):
    """The body did not arrive in time."""

    status = 408
    code = "slow_body"


class TooLargeError(RefusalError):
    """The body is larger than the server takes."""

    status = 413
    code = "too_large"


class BusyError(RefusalError):
    """More requests than the server can queue."""

    status = 503
    code = "busy"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


def refusal(request: Request, error: Exception) -> JSONResponse:
    """Answer a RefusalError."""
    assert isinstance(error, RefusalError)
    return _answer(
        request, error.status, code=error.code, detail=error.detail, headers=error.headers
    )


def bad_picture(request: Request, error: Exception) -> JSONResponse:
    """Answer a PictureError: 415 for what is no picture at all, else 422."""
    assert isinstance(error, PictureError)
    status = 415 if error.code == "not_a_picture" else 422
    return _answer(request, status, code=error.code, detail=error.detail)


def not_fetched(request: Request, error: Exception) -> JSONResponse:
    """Answer a FetchError: the address is the caller's to mend, so 422."""
    assert isinstance(error, FetchError)
    return _answer(request, 422, code=error.code, detail=error.detail)


def bad_parameters(request: Request, error: Exception) -> JSONResponse:
    """Answer FastAPI's own validation of parameters."""
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{entry['loc'][-1]}: {entry['msg']}" for entry in error.errors())
    return _answer(request, 422, code="malformed", detail=told)


def gone(request: Request, error: Exception) -> JSONResponse:
    """Answer a client that left before its body was whole; nobody reads it, the metrics count."""
    del error
    return _answer(
        request, 400, code="disconnected", detail="the connection ended before the body did"
    )


def http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return _answer(request, error.status_code, code=code, detail=detail, headers=error.headers)


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer what nobody foresaw; the server's log has the traceback, the caller only this."""
    del error
    return _answer(
        request, 500, code="internal_error", detail="the server failed; its log says at what"
    )


def _answer(
    request: Request,
    status: int,
    *,
    code: str,
    detail: str,
    headers: object = None,
) -> JSONResponse:
    more = dict(headers) if isinstance(headers, dict) else {}
    if request.url.path.startswith("/v2"):
        # The Open Inference Protocol has its own form for errors.
        return JSONResponse({"error": f"{code}: {detail}"}, status_code=status, headers=more)
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return JSONResponse(
        problem, status_code=status, headers=more, media_type="application/problem+json"
    )
