"""The description of the API says what it does, and nothing that one sends is a 500."""

import re
import secrets
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from api.errors import Problem
from api.openapi import PROBLEM_TYPE
from tests.api.evaluation.trained import Trained, bears, sha, train
from tests.house.routes import described_app, error_classes

DESCRIPTION = described_app().openapi()
Operation = tuple[str, str, dict[str, Any]]


def operations() -> list[Operation]:
    """Return method, path and description of every operation below /v1."""
    return [
        (method.upper(), path, described)
        for path, methods in DESCRIPTION["paths"].items()
        for method, described in methods.items()
        if path.startswith("/v1")
    ]


def test_every_operation_is_named_once_and_described() -> None:
    ids = [described["operationId"] for _, _, described in operations()]
    assert len(ids) == len(set(ids))
    assert all(described["description"] for _, _, described in operations())


@pytest.mark.parametrize(
    "record", ["Augment", "FitStage", "LrFind", "LrFindStage", "Preprocess", "Recipe"]
)
def test_every_field_of_what_a_run_is_told_is_described(record: str) -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    names = [name for name in schemas if name in (record, f"{record}-Input", f"{record}-Output")]
    assert names
    for name in names:
        fields = schemas[name]["properties"]
        assert [key for key in fields if "description" not in fields[key]] in ([], ["kind"]), name


def test_every_error_is_described_as_a_problem() -> None:
    for method, path, described in operations():
        for status, answer in described["responses"].items():
            if status[0] in "45":
                assert list(answer["content"]) == [PROBLEM_TYPE], f"{method} {path}"
                assert answer["description"], f"{method} {path} {status} names no code"
    assert "HTTPValidationError" not in str(DESCRIPTION)


def test_every_operation_declares_who_is_refused() -> None:
    for method, path, described in operations():
        declared = set(described["responses"])
        below_a_project = "{project}" in path
        assert "401" in declared, path
        assert "404" in declared or not below_a_project, path
        assert "403" in declared or described["x-least-role"] in ("viewer", "subject"), path
        assert {"parameters", "requestBody"}.isdisjoint(described) or "422" in declared, (
            f"{method} {path}"
        )


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in error_classes()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert all(400 <= error.status < 600 for error in error_classes())


# What follows sends everything that the description allows, and much that it does not.

ODD_NUMBERS = ("0", "-1", str(2**31), str(2**63), str(10**30), "1e3", "one", "%00", "1.5")
ODD_NAMES = ("%00", "a%00b", "%ff", "x" * 300, "..%2f..", "' or 1=1 --", "%E2%80%AE", " ", "0")
ODD_QUERIES = (
    *("", "\x00", "no such", "-1", "0", str(2**63), str(10**30), "W10=", "WyJcdTAwMDAiXQ=="),
    *("WzkyMjMzNzIwMzY4NTQ3NzU4MDhd", "W3RydWVd", "WzFd", "Wy05XQ=="),
)
ODD_BODIES: tuple[tuple[bytes, str], ...] = (
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"[]", "application/json"),
    (b"null", "application/json"),
    (b"{}", "text/plain"),
    (b"\xff\xfe", "application/json"),
    (b'{"name": NaN}', "application/json"),
    (b"[" * 100_000, "application/json"),
    (b"PK\x03\x04", "application/zip"),
    (b"a=b", "application/x-www-form-urlencoded"),
    (b"--x--", "multipart/form-data; boundary=x"),
)
GOOD = {
    "project": "zoo",
    "dataset": "bears",
    "sha": sha("i00000"),
    "class_id": "1",
    "version": "1",
    "run": "1",
    "recipe": "fine-tune",
    "review": "1",
    "number": "1",
    "endpoint": "bears",
    "screen": "00000000-0000-0000-0000-000000000000",
    "subject": "viewer",
    "token": "1",
    "promotion": "1",
}
NUMBERS = {"class_id", "version", "run", "review", "number", "token", "promotion"}


@pytest.fixture
def client(callers: Callable[[str], TestClient]) -> TestClient:
    """A client that may do everything."""
    return callers("platform")


@pytest.fixture
def zoo(client: TestClient, database: Any, store: Any, project: Any) -> Trained:
    """A dataset, a version, a run with a report, a review and an endpoint."""
    trained = train(database, store, project, bears(12))
    for path, body in (("reviews", {"run": 1}), ("endpoints", {"name": "bears"})):
        assert client.post(f"/v1/projects/zoo/{path}", json=body).status_code == 201
    return trained


def test_odd_paths_are_problems(client: TestClient, zoo: Trained) -> None:
    wrong = []
    for method, path, _ in operations():
        for name in re.findall(r"\{(\w+)\}", path):
            for odd in ODD_NUMBERS if name in NUMBERS else ODD_NAMES:
                url = filled(path, {**GOOD, name: odd})
                wrong += complaints(client.request(method, url, json={}), f"{method} {url}")
    assert not wrong, "\n".join(wrong)


def test_odd_queries_are_problems(client: TestClient, zoo: Trained) -> None:
    wrong = []
    for method, path, described in operations():
        asked = [p["name"] for p in described.get("parameters", []) if p["in"] == "query"]
        for name, odd in product(asked, ODD_QUERIES):
            answer = client.request(method, filled(path, GOOD), params={name: odd})
            wrong += complaints(answer, f"{method} {path}?{name}={odd!r}")
    assert not wrong, "\n".join(wrong)


def test_odd_bodies_are_problems(client: TestClient, zoo: Trained) -> None:
    wrong = []
    for method, path, described in operations():
        if "requestBody" not in described:
            continue
        for body, kind in ODD_BODIES:
            headers = {"Content-Type": kind}
            answer = client.request(method, filled(path, GOOD), content=body, headers=headers)
            wrong += complaints(answer, f"{method} {path} {body[:20]!r} as {kind}")
    assert not wrong, "\n".join(wrong)


def test_an_odd_idempotency_key_is_a_problem(client: TestClient, zoo: Trained) -> None:
    long = secrets.token_hex(5000)
    wrong = []
    for number, key in enumerate(("", " ", "a" * 300, long)):
        body = {"name": f"d{number}"}
        headers = {"Idempotency-Key": key}
        answer = client.post("/v1/projects/zoo/datasets", json=body, headers=headers)
        wrong += complaints(answer, f"a key of {len(key)} characters")
    assert not wrong, "\n".join(wrong)


def test_generated_bodies_are_problems_or_good(client: TestClient, zoo: Trained) -> None:
    for method, path, described in bodied():
        schema = described["requestBody"]["content"]["application/json"]["schema"]

        @seed(1)
        @settings(
            max_examples=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(body=values(schema))
        def send(body: Any, *, asked: Callable[[Any], Any]) -> None:
            assert not complaints(asked(body), f"{method} {path} {body!r}")  # noqa: B023

        url = filled(path, GOOD)
        send(asked=lambda body, method=method, url=url: client.request(method, url, json=body))


def bodied() -> Iterator[Operation]:
    """Yield the operations that take JSON."""
    for method, path, described in operations():
        if "application/json" in described.get("requestBody", {}).get("content", {}):
            yield method, path, described


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Generate what fits the schema, and now and then anything else."""
    return st.one_of(_fitting(schema), _fitting(schema), _anything())


def _anything() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.just(10**40)
    return st.recursive(
        leaves | numbers | st.just("\x00"),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=4,
    )


def _fitting(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _fitting(DESCRIPTION["components"]["schemas"][name], depth)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of(*(_fitting(one, depth) for one in schema[several]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _of_type(schema, depth)


def _of_type(schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        needed = set(schema.get("required", []))
        fields = {name: _fitting(s, depth + 1) for name, s in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: made for name, made in fields.items() if name in needed},
            optional={name: made for name, made in fields.items() if name not in needed},
        )
    if kind == "object":
        inner = schema.get("additionalProperties", {})
        return st.dictionaries(
            st.text(max_size=8), _fitting(inner if isinstance(inner, dict) else {}), max_size=2
        )
    if kind == "array":
        return st.lists(_fitting(schema.get("items", {}), depth + 1), max_size=3)
    return _leaf(schema, kind)


def _leaf(schema: dict[str, Any], kind: str | None) -> st.SearchStrategy[Any]:
    if kind == "string":
        known = st.sampled_from(["bears", "black", "grizzly", sha("i00000"), "file:///x", "s3://b"])
        return known | st.from_regex(schema.get("pattern", ".{0,12}"), fullmatch=True)
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind == "boolean":
        return st.booleans()
    return st.none() if kind == "null" else _anything()


def filled(path: str, names: dict[str, str]) -> str:
    """Put names into a path."""
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], path)


PROBLEM = Draft202012Validator(Problem.model_json_schema())


def complaints(answer: Any, asked: str) -> list[str]:
    """Say what is wrong with an answer: it is good, or a problem with field and way out."""
    if answer.status_code < 400:
        return []
    if answer.status_code >= 500 or answer.headers["content-type"] != PROBLEM_TYPE:
        return [f"{asked}: {answer.status_code} {answer.text}"]
    body = answer.json()
    PROBLEM.validate(body)
    if body["title"] in ("Not Found", "Method Not Allowed"):
        return []  # no route at all
    lacking = [name for name in ("field", "way_out") if not body.get(name)]
    return [f"{asked} lacks {lacking}: {answer.text}"] if lacking else []
