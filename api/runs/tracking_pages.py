"""MLflow's pages and reads at `/mlflow`, for members: nothing is written, nobody else's is shown.

A browser signs in on the review pages' form; MLflow's own client sends its token as bearer.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.datastructures import State

from api.access import UnauthorisedError, subject_of
from api.database import Database
from api.runs.tracking_queries import asked_by_query
from api.runs.tracking_reads import Asked, Listing, NoReadError, RefusedReadError, asked_of
from api.runs.tracking_sight import Sight
from api.settings import Settings

log = logging.getLogger("api")

PATIENCE = httpx.Timeout(60.0, connect=5.0)
PASSED_BACK = (
    *("content-type", "content-length", "content-encoding", "content-disposition"),
    *("cache-control", "etag", "last-modified"),
)
"""The headers of MLflow's answer that reach the caller."""
OWN_FILES = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""The pages send nothing to other servers, MLflow's makers included."""
FOREIGN_FILES = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a run logged may be a page with scripts: it must not act for who looks at it."""
MOST_PAGES = 50
"""Of a listing, read until one of them holds something of the caller's."""


class NotServedError(Exception):
    """The request is not passed on, or MLflow does not answer: in the words of MLflow's API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def tracking_pages(state: State) -> FastAPI:
    """Build the pages' application, to be mounted at `/mlflow`; it shares the API's state."""
    pages = FastAPI(openapi_url=None)
    pages.state = state
    pages.add_exception_handler(UnauthorisedError, _ask_to_sign_in)
    pages.add_exception_handler(NotServedError, _tell)
    pages.add_api_route("/{path:path}", read, methods=["GET"], response_model=None)
    pages.add_api_route("/{path:path}", search, methods=["POST"], response_model=None)
    return pages


def open_mlflow(settings: Settings) -> httpx.Client:
    """Open the connections to MLflow; nothing is asked before the first request."""
    headers, auth = {}, None
    if settings.mlflow_username and settings.mlflow_password:
        auth = httpx.BasicAuth(settings.mlflow_username, settings.mlflow_password)
    elif settings.mlflow_token:
        headers = {"Authorization": f"Bearer {settings.mlflow_token}"}
    url = settings.tracking_url.rstrip("/") + "/"
    return httpx.Client(base_url=url, headers=headers, auth=auth, timeout=PATIENCE)


def sight_of(request: Request) -> Sight:
    """Find what the request's subject may see."""
    database: Database = request.app.state.database
    with database.transaction() as session:
        return Sight(database, subject_of(request, session))


Seen = Annotated[Sight, Depends(sight_of, scope="function")]


def read(request: Request, sight: Seen, path: str) -> Response:
    """Pass a read on: a page's file, or a GET of MLflow's API."""
    given: dict[str, Any] = {
        name: values if len(values) > 1 else values[0]
        for name in request.query_params
        if (values := request.query_params.getlist(name))
    }
    if path == "ajax-api/3.0/mlflow/ui-telemetry":
        return JSONResponse({"disable_telemetry": True})
    asked = _allowed(sight, lambda: asked_of("GET", path, given))
    return _answer(request, sight, path, asked=asked)


def search(
    request: Request,
    sight: Seen,
    path: str,
    *,
    given: Annotated[dict[str, Any] | None, Body()] = None,
) -> Response:
    """Pass a search on: MLflow's pages search by POST."""
    body = given or {}
    if path == "graphql":
        asked = _allowed(sight, lambda: asked_by_query(body))
    else:
        asked = _allowed(sight, lambda: asked_of("POST", path, body))
    return _answer(request, sight, path, asked=asked)


def _allowed(sight: Sight, ask: Callable[[], Asked]) -> Asked:
    try:
        asked = ask()
    except NoReadError as error:
        message = f"MLflow is read-only here: {error}"
        raise NotServedError(405, "PERMISSION_DENIED", message) from error
    except RefusedReadError as error:
        message = f"MLflow shows a project's own here: {error}"
        raise NotServedError(400, "INVALID_PARAMETER_VALUE", message) from error
    if not sight.sees(asked.named):
        ids = ", ".join(f"{one.of.value} {one.id!r}" for one in asked.named[:5])
        message = f"{sight.subject.name} sees no {ids}: it is of none of your projects"
        raise NotServedError(404, "RESOURCE_DOES_NOT_EXIST", message)
    return asked


def _answer(request: Request, sight: Sight, path: str, *, asked: Asked) -> Response:
    mlflow: httpx.Client = request.app.state.mlflow
    if asked.listing is not None:
        found = _own_rows(mlflow, request.method, path, asked=asked, sight=sight)
        return JSONResponse(found, headers=_headers(path))
    passed = _request(mlflow, request.method, path, given=asked.given)
    # As the browser would take it: the bytes go through as they are.
    passed.headers["accept-encoding"] = request.headers.get("accept-encoding", "identity")
    answer = _sent(mlflow, passed)
    headers = {name: value for name, value in answer.headers.items() if name in PASSED_BACK}
    return StreamingResponse(
        _chunks(answer), status_code=answer.status_code, headers={**headers, **_headers(path)}
    )


def _own_rows(
    mlflow: httpx.Client, method: str, path: str, *, asked: Asked, sight: Sight
) -> dict[str, Any]:
    """Read a listing until a page of it holds a row of the caller's, and keep only such rows."""
    listing, given = asked.listing, dict(asked.given)
    assert listing is not None
    for _ in range(MOST_PAGES):
        answer = _sent(mlflow, _request(mlflow, method, path, given=given))
        answer.read()
        if not answer.is_success:
            raise NotServedError(answer.status_code, "INVALID_PARAMETER_VALUE", _said(answer))
        page: dict[str, Any] = answer.json()
        page[listing.rows] = _own(page.get(listing.rows, []), listing, sight)
        if page[listing.rows] or not page.get("next_page_token"):
            break
        given["page_token"] = page["next_page_token"]
    return page


def _own(rows: list[dict[str, Any]], listing: Listing, sight: Sight) -> list[dict[str, Any]]:
    seen = sight.among(listing.of, {str(row[listing.id]) for row in rows}) if rows else set()
    return [row for row in rows if row[listing.id] in seen]


def _request(
    mlflow: httpx.Client, method: str, path: str, *, given: Mapping[str, Any]
) -> httpx.Request:
    if method == "GET":
        return mlflow.build_request("GET", path, params=dict(given))
    return mlflow.build_request("POST", path, json=dict(given))


def _sent(mlflow: httpx.Client, request: httpx.Request) -> httpx.Response:
    try:
        return mlflow.send(request, stream=True)
    except httpx.HTTPError as error:
        log.warning("MLflow does not answer: %s", error)
        message = "MLflow does not answer just now; runs, reports and reviews go on without it"
        raise NotServedError(503, "TEMPORARILY_UNAVAILABLE", message) from error


def _chunks(answer: httpx.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_raw()
    finally:
        answer.close()


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"MLflow answers {answer.status_code}"


def _headers(path: str) -> dict[str, str]:
    headers = {
        "Content-Security-Policy": FOREIGN_FILES if "artifact" in path else OWN_FILES,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    return headers if path.startswith("static-files/") else {**headers, "Cache-Control": "no-store"}


def _ask_to_sign_in(request: Request, error: Exception) -> Response:
    root = str(request.scope.get("root_path", ""))
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        form = f"{root.removesuffix('/mlflow')}/review/sign-in"
        return RedirectResponse(f"{form}?to={quote(root + '/')}", status_code=303)
    answer = _tell(request, NotServedError(401, "UNAUTHENTICATED", str(error)))
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _tell(_: Request, error: Exception) -> Response:
    assert isinstance(error, NotServedError)
    content = {"error_code": error.code, "message": error.message}
    return JSONResponse(content, status_code=error.status, headers={"Cache-Control": "no-store"})
