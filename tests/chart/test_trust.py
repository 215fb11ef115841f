"""Certificates of the operator's own CA, and variables such as a proxy: who gets them."""

from pathlib import Path
from typing import Any

import pytest

from api.cluster.job_objects import job_object
from api.cluster.kubernetes_rules import read_rules
from api.cluster.pod_objects import CA_FILE, CA_FOLDER, CA_VARIABLES
from api.cluster.protocol import JobRequest
from tests.chart.api_server import api_server
from tests.chart.chart import (
    PROFILES,
    RefusedError,
    Rendered,
    Thing,
    component_of,
    containers,
    render,
)

TRUSTING = {"api", "worker", "migrations", "first-token", "mlflow"}
WITHIN = {"roles"}
"""Containers that speak to the chart's own PostgreSQL alone."""
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}


def test_whoever_reaches_what_is_outside_should_trust_the_bundle(everything: Rendered) -> None:
    told = dict.fromkeys((*CA_VARIABLES, "PGSSLROOTCERT"), CA_FILE)
    for name, pod in everything.pods():
        if component_of(pod) not in TRUSTING:
            assert "company-ca" not in str(pod), name
            continue
        volume = {"name": "ca-bundle", "configMap": {"name": "company-ca"}}
        assert volume in pod["spec"]["volumes"], name
        for container in containers(pod):
            if container["name"] in WITHIN:
                continue
            assert told.items() <= variables(container).items(), container["name"]
            assert mount() in container["volumeMounts"], container["name"]


def test_jobs_and_endpoints_should_trust_it_too(everything: Rendered, tmp_path: Path) -> None:
    content = everything.one("ConfigMap", "-cluster")["data"]["cluster.json"]
    (tmp_path / "cluster.json").write_text(content)
    rules = read_rules(tmp_path / "cluster.json")

    for pods in (rules.importer, rules.trainer, rules.inference):
        assert pods.ca_bundle == "company-ca"
    request = JobRequest(name="import-1", program="importer", environment={}, project="zoo")
    made = job_object(request, rules, owner_uid="uid-1", programs={"importer": ["import"]})
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert dict.fromkeys(CA_VARIABLES, CA_FILE).items() <= variables(container).items()
    assert mount() in container["volumeMounts"]


def test_without_a_bundle_images_should_trust_whom_they_do(production: Rendered) -> None:
    assert "ca-bundle" not in production.text
    assert CA_FOLDER not in production.text
    assert '"ca_bundle": null' in production.text


def test_a_proxy_should_be_told_to_who_has_one(everything: Rendered) -> None:
    for component in ("api", "worker", "mlflow"):
        (deployment,) = everything.of("Deployment", component)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert PROXY in container["env"], component


@pytest.mark.parametrize("data", [None, {}, {"ca.pem": "…"}])
def test_a_bundle_that_is_not_there_should_be_refused(
    everything: Rendered, data: dict[str, str] | None
) -> None:
    account = {"kind": "ServiceAccount", "metadata": {"name": "default"}}
    bundle = {"kind": "ConfigMap", "metadata": {"name": "company-ca"}, "data": data}
    there = [account, *everything.of("ConfigMap"), *([] if data is None else [bundle])]
    with (
        api_server(*there) as cluster,
        pytest.raises(RefusedError, match=r'caBundle: there is no ConfigMap "company-ca"'),
    ):
        render(PROFILES["every-value"], cluster=cluster)


def variables(container: Thing) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container.get("env", ())}


def mount() -> Thing:
    return {"name": "ca-bundle", "mountPath": CA_FOLDER, "readOnly": True}
