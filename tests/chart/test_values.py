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
    containers,
    is_free,
    leaves,
    render,
    templates,
    values_of,
    without_comments,
)

VALUES = CHART / "values.yaml"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
TAINT = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
RANDOM = re.compile(r"[A-Za-z0-9]{32}\b")
"""A password that Helm makes anew each time."""
NUMBER = "1234"


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
        ({"trainer": {"tolerations": [{**TAINT, "tolerationSeconds": 9}]}}, "/0/effect'"),
        ({"trainer": {"tolerations": [{"key": "a", "tolerationSeconds": 9}]}}, "'effect'"),
        ({"importer": {"tolerations": [{**TAINT, "value": "true"}]}}, "/0/value'"),
        ({"inference": {"tolerations": [{"effect": "NoSchedule"}]}}, "'key'"),
        ({"nameOverride": "x" * 31}, "at '/nameOverride'"),
        ({"database": {"programRole": "bear-loop"}}, "at '/database/programRole'"),
        ({"image": {"registry": "registry.example.org/Team"}}, "at '/image/registry'"),
        ({"image": {"pullSecrets": ["Mine"]}}, "at '/image/pullSecrets/0'"),
        ({"ingress": {"host": "*.example.org"}}, "at '/ingress/host'"),
        ({"gateway": {"host": "10.0.0.1"}}, "at '/gateway/host'"),
        ({"ingress": {"host": "bears..example.org"}}, "at '/ingress/host'"),
        ({"clusterDomain": "*.local"}, "at '/clusterDomain'"),
        ({"clusterDomain": ""}, "at '/clusterDomain'"),
        ({"store": {"url": "s3://bears/#1"}}, "at '/store/url'"),
    ],
)
def test_the_schema_should_name_the_value_that_is_wrong(
    wrong: Mapping[str, Any], said: str, helm_is_there: None
) -> None:
    with pytest.raises(RefusedError, match=re.escape(said)):
        render(PROFILES["production"], values=wrong)


@pytest.mark.parametrize("profile", ["external", "every-value"])
def test_a_name_that_looks_like_a_number_should_stay_a_name(
    profile: str, helm_is_there: None
) -> None:
    given = set_in(profile)
    values: dict[str, Any] = {
        "image": {"pullSecrets": [NUMBER]},
        "api": {"topologyKeys": [NUMBER]},
    }
    for path, part in described_parts(SCHEMA):
        if part.get("$ref") == "#/$defs/name" and given[path]:
            values = merged(values, nested(path, NUMBER))

    found = list(scalars(render(PROFILES[profile], values=values).things))
    assert int(NUMBER) not in found
    assert found.count(NUMBER) > 10


@pytest.mark.parametrize("word", ["on", "yes", "null"])
def test_a_role_that_looks_like_yaml_should_stay_a_role(word: str, helm_is_there: None) -> None:
    evaluation = render(PROFILES["evaluation"], values={"database": {"programRole": word}})

    (job,) = evaluation.of("Job", "migrations")
    roles, migrations = containers(job["spec"]["template"])
    assert roles["command"][-1] == word
    assert {"name": "BEARLOOP_PROGRAM_ROLE", "value": word} in migrations["env"]


def test_an_address_with_a_comma_should_stay_whole(helm_is_there: None) -> None:
    production = render(PROFILES["production"], values={"store": {"url": "s3://bears/a,b:"}})

    told = production.one("ConfigMap", "-settings")["data"]
    assert told["BEARLOOP_STORE_URL"] == "s3://bears/a,b:"
    (mlflow,) = production.of("Deployment", "mlflow")
    (server,) = mlflow["spec"]["template"]["spec"]["containers"]
    kept = {"name": "MLFLOW_ARTIFACTS_DESTINATION", "value": "s3://bears/a,b:/mlflow"}
    assert kept in server["env"]


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
        *("tracking_pages", "public_url", "local", "processes_at_once", "stop_grace"),
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


def described(schema: Mapping[str, Any]) -> Iterator[Path_]:
    for path, _ in described_parts(schema):
        yield path


def described_parts(
    schema: Mapping[str, Any], path: Path_ = ()
) -> Iterator[tuple[Path_, dict[str, Any]]]:
    for key, part in schema["properties"].items():
        if (*path, key) == ("global",):
            continue
        if "properties" in part:
            yield from described_parts(part, (*path, key))
        else:
            yield (*path, key), part


def merged(values: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of values over another."""
    inner = {
        key: merged(values[key], further[key])
        for key in values.keys() & further.keys()
        if isinstance(values[key], dict)
    }
    return {**values, **further, **inner}


def scalars(thing: Any) -> Iterator[Any]:
    """Yield all that is no map and no list."""
    if isinstance(thing, dict | list):
        for inner in thing.values() if isinstance(thing, dict) else thing:
            yield from scalars(inner)
    else:
        yield thing


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
