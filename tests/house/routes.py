"""Every route of the API, with the least caller that the type of its parameter lets pass."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from api.access import platform_subject, subject_of
from api.app import create_app
from api.errors import ApiError
from api.permissions import Outside
from api.review.pages import signed_in
from api.roles import Role
from api.runs.tracking_pages import sight_of
from api.settings import Settings

NO_CALLER = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/review/static"}
"""What Starlette answers itself: descriptions and style sheets."""


def described_app() -> FastAPI:
    """Return the application as it is described; nothing is opened before it serves."""
    return create_app(
        Settings(
            database_url="postgresql+psycopg://127.0.0.1/none",
            store_url="file:///nowhere",
            tracking_url="http://127.0.0.1:9",
            work_folder="/nowhere",
        )
    )


def actors(app: FastAPI) -> dict[str, set[Role | Outside]]:
    """Return method and path -> the callers that the route's parameters ask for."""
    return dict(_walk(app.routes, ""))


def error_classes() -> list[type[ApiError]]:
    """Return every class of error that the API may answer with, by code."""
    described_app()
    found = [error for error in _below(ApiError) if error.__module__.startswith("api.")]
    return sorted(found, key=lambda error: error.code)


def _walk(routes: Sequence[BaseRoute], prefix: str) -> Iterator[tuple[str, set[Role | Outside]]]:
    for route in iter_route_contexts(routes):
        path = f"{prefix}{route.path}"
        inner = getattr(route.route, "app", None)
        if isinstance(inner, FastAPI):
            yield from _walk(inner.routes, path)
        elif path not in NO_CALLER:
            found = _least(list(_calls(route.dependant)))
            yield from ((f"{method} {path}", found) for method in route.methods or ())


def _calls(dependant: Dependant) -> Iterator[Any]:
    for below in dependant.dependencies:
        yield below.call
        yield from _calls(below)


def _least(calls: list[Any]) -> set[Role | Outside]:
    roles = {call.least for call in calls if hasattr(call, "least")}
    if roles:
        return roles
    if platform_subject in calls:
        return {Outside.platform}
    return {Outside.subject} if {subject_of, signed_in, sight_of} & set(calls) else {Outside.anyone}


def _below(error: type[ApiError]) -> Iterator[type[ApiError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _below(kind)
