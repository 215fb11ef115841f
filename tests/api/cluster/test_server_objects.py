"""The objects of an endpoint: two of them whole, as files, and what each setting changes."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.protocol import DeploymentRequest
from api.cluster.server_objects import (
    TEMPLATE,
    Place,
    object_name,
    owns_replicas,
    replicas_alone,
    server_objects,
    tokens_mark,
)
from tests.api.cluster.kubernetes_rules import rules

GOLDEN = Path(__file__).parent / "golden"
PUBLIC = DeploymentRequest(
    name="bears-3",
    digest="0" * 64,
    environment={
        "BEARLOOP_STORE_URL": "s3://bearloop/projects/1",
        "BEARLOOP_BUNDLE": f"bundles/{'0' * 64}/",
    },
    project="zoo",
    title="endpoint bears",
)
PRIVATE = replace(
    PUBLIC, token_hashes=("a" * 64, "b" * 64), replicas=2, most_replicas=6, cpu=0.5, memory="768Mi"
)


def objects(
    request: DeploymentRequest, asked: KubernetesRules | None = None
) -> dict[str, dict[str, Any]]:
    place = Place(asked or rules(), command=("python", "-m", "inference"), owner="uid-1")
    return {thing["kind"]: thing for thing in server_objects(request, place)}


def pod(request: DeploymentRequest, asked: KubernetesRules | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = objects(request, asked)["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("request_", "file"), [(PUBLIC, "public_server"), (PRIVATE, "private_servers_that_scale")]
)
def test_the_objects_are_as_in_the_file(request_: DeploymentRequest, file: str) -> None:
    made = list(objects(request_).values())
    assert made == json.loads((GOLDEN / f"{file}.json").read_text())


def test_names_are_dns_labels_and_differ_by_release() -> None:
    pairs = [("a", "b-c-1"), ("a-b", "c-1"), ("1.x", "c-1"), ("r1-x", "c-1"), ("r" * 53, "e" * 60)]
    names = [object_name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z]", name)] == []
    assert object_name("forest", "bears-3").startswith("forest-bears-3-")


def test_one_server_has_neither_budget_nor_autoscaler() -> None:
    assert list(objects(PUBLIC)) == ["Service", "Deployment"]
    assert list(objects(replace(PUBLIC, replicas=3))) == [
        "Service",
        "Deployment",
        "PodDisruptionBudget",
    ]


def test_only_a_fixed_number_of_servers_is_said() -> None:
    assert objects(PUBLIC)["Deployment"]["spec"]["replicas"] == 1
    assert objects(replace(PUBLIC, replicas=3))["Deployment"]["spec"]["replicas"] == 3
    assert "replicas" not in objects(PRIVATE)["Deployment"]["spec"]


def test_tokens_change_the_secret_and_no_pod() -> None:
    before, after = objects(PRIVATE), objects(replace(PRIVATE, token_hashes=("c" * 64,)))
    assert before["Secret"] != after["Secret"]
    assert before["Deployment"] == after["Deployment"]
    assert tokens_mark(PRIVATE) != tokens_mark(replace(PRIVATE, token_hashes=()))
    assert tokens_mark(PUBLIC) is None


@pytest.mark.parametrize("change", [{"digest": "1" * 64}, {"cpu": 2.0}, {"memory": "2Gi"}])
def test_what_changes_a_server_changes_the_mark_of_its_pods(change: dict[str, Any]) -> None:
    before, after = objects(PUBLIC), objects(replace(PUBLIC, **change))
    marks = [made["Deployment"]["metadata"]["labels"][TEMPLATE] for made in (before, after)]
    assert marks[0] != marks[1]
    more = objects(replace(PUBLIC, replicas=4))
    assert more["Deployment"]["spec"]["template"] == before["Deployment"]["spec"]["template"]


def test_the_operator_sizes_servers_that_say_nothing() -> None:
    asked = rules(cpu=1.5, memory="3Gi")
    assert pod(PUBLIC, asked)["containers"][0]["resources"] == {
        "requests": {"cpu": "1500m", "memory": "3Gi"},
        "limits": {"cpu": "1500m", "memory": "3Gi"},
    }


@pytest.mark.parametrize(("after", "allowed"), [("PT1H", True), ("PT1H1S", False), ("P1D", False)])
def test_servers_are_kept_for_no_longer_than_kubernetes_allows(after: str, allowed: bool) -> None:
    if allowed:
        assert rules(scale_in_after=after).inference.scale_in_after == timedelta(hours=1)
        return
    with pytest.raises(ValidationError, match="scale_in_after"):
        rules(scale_in_after=after)


def test_endpoints_that_outlive_the_release_go_with_nobody_and_say_whose_they_were() -> None:
    outliving = rules().model_copy(update={"endpoints_outlive": True})
    for thing in objects(PRIVATE, outliving).values():
        assert thing["metadata"]["ownerReferences"] == []
        assert thing["metadata"]["labels"]["bearloop.io/owner"] == "uid-1"


def test_servers_trust_whom_the_operator_says() -> None:
    plain, told = (
        objects(PUBLIC, asked)["Deployment"]["spec"]["template"]["spec"]
        for asked in (rules(), rules(ca_bundle="company-ca"))
    )
    assert "ca-bundle" not in str(plain)
    (container,) = told["containers"]
    assert {"name": "SSL_CERT_FILE", "value": "/etc/bearloop-ca/ca.crt"} in container["env"]
    mount = {"name": "ca-bundle", "mountPath": "/etc/bearloop-ca", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert {"name": "ca-bundle", "configMap": {"name": "company-ca"}} in told["volumes"]


def test_the_operator_places_servers() -> None:
    toleration = {"key": "cpu-only", "operator": "Exists"}
    zone = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
    }
    asked = rules(
        node_selector={"pool": "cpu"},
        tolerations=(toleration,),
        priority_class="serving",
        topology_spread=(zone,),
        shared_memory="1Gi",
    )
    made = pod(PUBLIC, asked)
    assert made["nodeSelector"] == {"pool": "cpu"}
    assert made["tolerations"] == [toleration]
    assert made["priorityClassName"] == "serving"
    spread = made["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in spread] == [zone["topologyKey"]]
    assert spread[0]["labelSelector"]["matchLabels"]["bearloop.io/endpoint"] == "bears-3"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in made["containers"][0][
        "volumeMounts"
    ]


def test_a_short_grace_leaves_half_of_it_to_the_last_requests() -> None:
    hurried = rules().model_copy(update={"grace": timedelta(seconds=6)})
    environment = pod(PUBLIC, hurried)["containers"][0]["env"]
    assert {"name": "BEARLOOP_LINGER", "value": "3"} in environment


def test_the_operators_own_threads_are_kept() -> None:
    asked = rules(environment={"BEARLOOP_THREADS": "3"})
    environment = pod(PUBLIC, asked)["containers"][0]["env"]
    assert [e for e in environment if e["name"] == "BEARLOOP_THREADS"] == [
        {"name": "BEARLOOP_THREADS", "value": "3"}
    ]


def test_the_number_of_servers_is_handed_over_once() -> None:
    applied: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    live: dict[str, Any] = {
        "metadata": {
            "name": "forest-bears-3",
            "managedFields": [
                {"manager": "bearloop", "operation": "Apply", "fieldsV1": applied},
                {"manager": "kubelet", "operation": "Update", "fieldsV1": {}},
            ],
        },
        "spec": {"replicas": 4, "paused": False},
    }
    assert owns_replicas(live)
    assert replicas_alone(live)["spec"] == {"replicas": 4}
    live["metadata"]["managedFields"][0]["manager"] = "bearloop-replicas"
    assert not owns_replicas(live)
