"""The API's description: what FastAPI knows of the routes, and what holds for all of them."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.errors import Problem
from api.idempotency import LONGEST
from api.permissions import MATRIX, Outside
from api.roles import Role

PROBLEM_TYPE = "application/problem+json"
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
    "description": "Of one's own making, e.g. a UUID: sent again under the same key, a request is "
    "answered again and does nothing twice, for a day.",
}
OF_FASTAPI = ("HTTPValidationError", "ValidationError")
"""How FastAPI itself would answer a malformed request; here that is a problem as well."""


class DescribedApi(FastAPI):
    """An application whose description says who may call, and how every error looks."""

    def openapi(self) -> dict[str, Any]:
        """Return the description; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """Name an operation by its stage and its function: `datasets_freeze`."""
    stage = route.endpoint.__module__.removeprefix("api.").split(".")[0]
    return f"{stage}_{route.name}"


def _completed(description: dict[str, Any]) -> dict[str, Any]:
    parts = description.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for name in OF_FASTAPI:
        schemas.pop(name, None)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method.upper(), path)
    return description


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    least = MATRIX[f"{method} {path}"]
    if least is Outside.anyone:
        return  # health answers in words of its own
    answers = operation["responses"]
    for status, code in _refusals(least).items():
        answers.setdefault(status, {"description": code})
    for status, answer in answers.items():
        if status.startswith(("4", "5")):
            answer["content"] = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if "422" in answers:
        answers["422"]["description"] = _with_malformed(answers["422"]["description"])
    if method == "POST":
        operation.setdefault("parameters", []).append(KEY_HEADER)
    operation["security"] = [{"token": []}]
    operation["x-least-role"] = least.value


def _refusals(least: Role | Outside) -> dict[str, str]:
    refusals = {"401": "unauthorised"}
    if least not in (Outside.subject, Role.viewer):
        refusals["403"] = "forbidden"
    if isinstance(least, Role):
        refusals["404"] = "not_found"
    return refusals


def _with_malformed(described: str) -> str:
    own = "" if described == "Validation Error" else described
    return ", ".join(filter(None, ["malformed", own]))
