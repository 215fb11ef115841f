import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from api.settings import Settings
from tests.chart.chart import (
    CHART,
    PROFILES,
    Path_,
    RefusedError,
    is_free,
    leaves,
    render,
    templates,
    values_of,
    without_comments,
)

VALUES = CHART / "values.yaml"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
RANDOM = re.compile(r"[A-Za-z0-9]{32}\b")
"""A password that Helm makes anew each time."""


def test_values_schema_and_the_every_value_file_should_list_the_same_keys() -> None:
    values = {path for path, _ in leaves(values_of(VALUES))}

    assert set(described(SCHEMA)) == values
    assert {path for path, _ in leaves(values_of(PROFILES["every-value"]))} == values


def test_every_value_should_have_its_comment() -> None:
    lines = VALUES.read_text().splitlines()
    for number, line in enumerate(lines):
        if not re.match(r" *[a-zA-Z]+:", line) or is_section(line) or is_amount(line):
            continue
        assert lines[number - 1].lstrip().startswith("#"), f"values.yaml:{number + 1}: {line}"


def test_every_object_of_the_schema_should_be_closed_and_everything_described() -> None:
    for path, part in parts(SCHEMA):
        if part.get("type") == "object" and path[-1:] != ("global",):
            # Closed, or a map whose values are typed.
            assert part.get("additionalProperties") not in (None, True), path
        if path[-2:-1] in {("properties",), ("$defs",)}:
            assert part.get("description", "").endswith("."), path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"api": {"replica": 2}}, "additional properties 'replica' not allowed"),
        ({"image": {"registry": "https://registry.example.org"}}, "at '/image/registry'"),
        ({"image": {"digests": {"api": "sha256:1"}}}, "at '/image/digests/api'"),
        ({"store": {"url": "file:///data"}}, "at '/store/url'"),
        ({"settings": {"lease": "60"}}, "at '/settings/lease'"),
        ({"trainer": {"memory": "16 GB"}}, "at '/trainer/memory'"),
        ({"trainer": {"cpu": "4"}}, "at '/trainer/cpu'"),
        ({"nameOverride": "x" * 31}, "at '/nameOverride'"),
        ({"database": {"programRole": "bear-loop"}}, "at '/database/programRole'"),
    ],
)
def test_the_schema_should_name_the_value_that_is_wrong(
    wrong: Mapping[str, Any], said: str, helm_is_there: None
) -> None:
    with pytest.raises(RefusedError, match=re.escape(said)):
        render(PROFILES["production"], values=wrong)


def test_every_value_that_a_template_names_should_be_there() -> None:
    known = {path[:depth] for path in all_paths(values_of(VALUES)) for depth in range(1, 9)}
    for template in templates():
        for named in re.findall(r"\.Values\.([A-Za-z.]+)", without_comments(template)):
            assert tuple(named.strip(".").split(".")) in known, f"{template.name}: {named}"


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=".".join(path)) for path, _ in leaves(values_of(VALUES))]
)
def test_every_value_should_change_what_is_rendered(path: Path_, helm_is_there: None) -> None:
    tries = (
        (name, other)
        for name in ("every-value", "external")
        for other in others(set_in(name)[path])
    )

    assert any(outcome(name, nested(path, other)) != outcome(name, {}) for name, other in tries)


def test_settings_should_be_those_of_the_program_with_its_defaults() -> None:
    of_the_chart = {
        *("database_url", "store_url", "tracking_url", "cluster", "cluster_file", "work_folder"),
        *("tracking_pages", "local", "processes_at_once", "stop_grace"),
    }
    told = {snake(name): value for name, value in values_of(VALUES)["settings"].items()}
    fields = {
        name: field.default
        for name, field in Settings.model_fields.items()
        # MLflow's own variables are no settings of bearloop.
        if field.validation_alias is None
    }

    assert set(told) == set(fields) - of_the_chart
    for name, value in told.items():
        is_span = isinstance(fields[name], timedelta)
        meant = TypeAdapter(timedelta).validate_python(value) if is_span else value
        assert meant == fields[name], name


def described(schema: Mapping[str, Any], path: Path_ = ()) -> Iterator[Path_]:
    for key, part in schema["properties"].items():
        if (*path, key) == ("global",):
            continue
        if "properties" in part:
            yield from described(part, (*path, key))
        else:
            yield (*path, key)


def parts(schema: Any, path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield path, schema
        for key, inner in schema.items():
            yield from parts(inner, (*path, key))


def is_section(line: str) -> bool:
    """A key whose values have comments of their own; the blank or comment above is enough."""
    return line.rstrip().endswith(":")


def is_amount(line: str) -> bool:
    return line.strip().startswith(("requests:", "limits:"))


def all_paths(values: Mapping[str, Any], path: Path_ = ()) -> Iterator[Path_]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict) and not is_free((*path, key)):
            yield from all_paths(value, (*path, key))


def set_in(name: str) -> dict[Path_, Any]:
    """Return every value as this profile has it."""
    return {**dict(leaves(values_of(VALUES))), **dict(leaves(values_of(PROFILES[name])))}


def others(value: Any) -> Iterator[Any]:
    """Yield values that are not this one; the schema is not asked."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str):
        yield f"{value}x"
        yield ""
    elif isinstance(value, list):
        yield [*value, "x"]
        yield []
    else:
        yield {**value, "x": "x"}


def nested(path: Path_, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def outcome(name: str, values: Mapping[str, Any]) -> str:
    """Return what is rendered, or why it is not, without what is random."""
    try:
        return RANDOM.sub("…", render(PROFILES[name], values=values, checked=False).text)
    except RefusedError as error:
        return str(error)


def snake(name: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", name).lower()
