"""How people reach the API from outside, and what it knows of that."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.api_server import api_server
from tests.chart.chart import PROFILES, Rendered, Thing, render


@pytest.mark.parametrize(
    ("name", "values", "public"),
    [
        ("production", {}, None),
        ("external", {}, "https://bearloop.example.org"),
        ("every-value", {}, "https://bearloop.example.org"),
        ("every-value", {"ingress": {"tlsSecret": ""}}, "http://bearloop.example.org"),
        ("external", {"gateway": {"host": ""}}, None),
    ],
)
def test_the_api_should_know_its_address_in_the_world(
    name: str, values: Mapping[str, Any], public: str | None, helm_is_there: None
) -> None:
    told = render(PROFILES[name], values=values).one("ConfigMap", "-settings")["data"]

    assert told.get("BEARLOOP_PUBLIC_URL") == public


def test_proxies_should_be_trusted_when_they_are_named(
    production: Rendered, everything: Rendered
) -> None:
    assert "--trusted-proxies" not in words(production)
    given = words(everything)
    assert given[given.index("--trusted-proxies") + 1] == "10.0.0.0/8,fd00::/8"


def test_a_pod_that_leaves_should_live_as_long_as_its_requests_may(
    production: Rendered, everything: Rendered
) -> None:
    for rendered, grace in ((production, 600), (everything, 1200)):
        (deployment,) = rendered.of("Deployment", "api")
        given = words(rendered)
        seconds = {name: int(given[given.index(name) + 1]) for name in ("--linger", "--grace")}
        assert seconds["--grace"] == grace
        killed_after = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert killed_after > sum(seconds.values())


@pytest.mark.parametrize(("live", "kept"), [(5, 5), (2, 3), (0, 3)])
def test_an_upgrade_should_leave_the_pods_that_autoscaling_made(
    everything: Rendered, *, live: int, kept: int
) -> None:
    (deployment,) = everything.of("Deployment", "api")
    assert deployment["spec"]["replicas"] == 3
    there = {**deployment, "spec": {**deployment["spec"], "replicas": live}}
    with api_server(there, *everything.of("ConfigMap")) as cluster:
        upgraded = render(PROFILES["every-value"], cluster=cluster)

    (deployment,) = upgraded.of("Deployment", "api")
    assert deployment["spec"]["replicas"] == kept


def words(rendered: Rendered) -> list[str]:
    """Return what the API is started with."""
    container = api_container(rendered)
    return [*container["command"], *container.get("args", ())]


def api_container(rendered: Rendered) -> Thing:
    (deployment,) = rendered.of("Deployment", "api")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: Thing = container
    return found
