"""The permission matrix, cell by cell: every route, asked by everyone."""

import re
from collections.abc import Callable

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.permissions import MATRIX, Outside
from api.roles import Role
from tests.house.routes import actors, described_app

DUMMIES = {
    "project": "zoo",
    "sha": "0" * 64,
    "screen": "00000000-0000-0000-0000-000000000000",
    "dataset": "none",
    "subject": "nobody",
    "endpoint": "none",
}
"""What stands in a path; numbers are 999."""
CALLERS = (None, "stranger", *Role, "platform")
REFUSED = {401, 403}


def test_the_matrix_names_every_route_and_no_other() -> None:
    assert set(MATRIX) == set(actors(described_app()))


def test_every_route_has_one_caller_of_the_type_that_the_matrix_names() -> None:
    assert {route: {least} for route, least in MATRIX.items()} == actors(described_app())


def test_only_health_and_the_sign_in_are_open_to_anyone() -> None:
    assert {route for route, least in MATRIX.items() if least is Outside.anyone} == {
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /review/sign-in",
        "POST /review/sign-in",
        "POST /review/sign-out",
    }


@pytest.mark.usefixtures("project")
def test_every_cell_answers_as_the_matrix_says(
    app: FastAPI, callers: Callable[[str], TestClient]
) -> None:
    wrong = []
    for name in CALLERS:
        client = TestClient(app, raise_server_exceptions=False) if name is None else callers(name)
        for route, least in MATRIX.items():
            answer = ask(client, route)
            if not is_right(answer, name, least):
                wrong.append(f"{route} by {name}, least {least}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)


def ask(client: TestClient, route: str) -> httpx2.Response:
    """Send the request with ids of nothing, and no body."""
    method, path = route.split(" ", 1)
    filled = re.sub(r"\{(\w+)\}", lambda found: DUMMIES.get(found[1], "999"), path)
    headers = {"Origin": "http://testserver"} if path.startswith("/review") else {}
    return client.request(method, filled, headers=headers, follow_redirects=False)


def is_right(answer: httpx2.Response, name: str | None, least: Role | Outside) -> bool:
    """Tell whether the answer's status is the one of this cell."""
    status = answer.status_code
    if least is Outside.anyone:
        return status not in REFUSED
    if name is None and answer.request.url.path.startswith("/review"):
        return "sign-in" in answer.headers["location"]
    if name is None:
        return status == 401 and answer.headers["www-authenticate"] == "Bearer"
    if least is Outside.platform:
        return status == 403 if name != "platform" else status not in REFUSED
    if least is Outside.subject:
        return status not in REFUSED
    if name == "stranger":
        return status == 404
    role = Role.admin if name == "platform" else Role(name)
    return status not in REFUSED if role.reaches(least) else status == 403
