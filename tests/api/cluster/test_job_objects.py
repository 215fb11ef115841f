"""The objects of a launch: four of them whole, as files, and what each setting changes."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.cluster.job_objects import job_object, service_object
from api.cluster.kubernetes_cluster import PROGRAMS
from api.cluster.kubernetes_rules import KubernetesRules, PodRules
from api.cluster.protocol import JobRequest
from api.jobs.decide import job_name
from tests.api.cluster import kubernetes_rules

GOLDEN = Path(__file__).parent / "golden"
ID = "0f8b3c52-6d1e-4c52-9f4e-2b7d1a6c9e10"
TOLD = {"BEARLOOP_STORE_URL": "s3://bearloop/projects/1", "BEARLOOP_JOB": ID}
IMPORT = JobRequest(
    name=job_name("import", ID, 1),
    program="importer",
    environment=TOLD,
    project="zoo",
    title="an import into bears",
)
RUN = JobRequest(
    name=job_name("run", ID, 2),
    program="trainer",
    environment={**TOLD, "MLFLOW_TRACKING_URI": "http://forest-mlflow:5000"},
    gpus=1,
    deadline=timedelta(hours=8),
    project="zoo",
    title="run 3",
)
NODES = replace(RUN, nodes=2, gpus=4, cpu=16, memory="64Gi")
QUEUED = replace(RUN, queue="team-a")
TRAINER = PodRules(
    image="registry/bearloop-trainer:1",
    secrets=("jobs-s3",),
    environment={"AWS_ENDPOINT_URL": "http://minio:9000"},
    cpu=4,
    memory="16Gi",
    shared_memory="2Gi",
    scratch="50Gi",
    node_selector={"accelerator": "a100"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    affinity={"podAntiAffinity": {}},
    priority_class="batch",
    runtime_class="nvidia",
    annotations={"team": "vision"},
    ca_bundle="company-ca",
)


def rules() -> KubernetesRules:
    return kubernetes_rules.rules().model_copy(update={"trainer": TRAINER})


def job(request: JobRequest, asked: KubernetesRules | None = None) -> dict[str, Any]:
    return job_object(request, asked or rules(), owner_uid="uid-1", programs=PROGRAMS)


def pod(request: JobRequest, asked: KubernetesRules | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = job(request, asked)["spec"]["template"]["spec"]
    return spec


def environment(request: JobRequest) -> dict[str, Any]:
    (container,) = pod(request)["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@pytest.mark.parametrize(
    ("request_", "file"),
    [
        (IMPORT, "importer"),
        (RUN, "trainer_with_a_gpu"),
        (NODES, "trainer_on_two_nodes"),
        (QUEUED, "trainer_in_a_queue"),
    ],
)
def test_the_objects_are_as_in_the_file(request_: JobRequest, file: str) -> None:
    made = [job(request_)]
    if request_.nodes > 1:
        made.append(service_object(request_, rules(), owner_uid="uid-1"))
    assert made == json.loads((GOLDEN / f"{file}.json").read_text())


def test_a_queue_is_one_label_of_the_job_alone() -> None:
    queued, free = job(QUEUED), job(RUN)
    assert queued["metadata"]["labels"].pop("kueue.x-k8s.io/queue-name") == "team-a"
    assert queued == free


def test_what_the_run_asks_for_goes_before_what_the_operator_set() -> None:
    (container,) = pod(replace(RUN, cpu=2.5, memory="3Gi"))["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "2.5", "memory": "3Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "3Gi", "nvidia.com/gpu": "1"},
    }


def test_shards_are_indexed_pods_that_know_how_many_they_are() -> None:
    spec = job(replace(IMPORT, shards=4))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert environment(replace(IMPORT, shards=4))["BEARLOOP_SHARDS"] == "4"
    assert "BEARLOOP_SHARDS" not in environment(IMPORT)
    assert "subdomain" not in pod(replace(IMPORT, shards=4))


def test_the_pods_of_several_nodes_are_told_whom_to_meet_where_they_can_be_found() -> None:
    service = service_object(NODES, rules(), owner_uid="uid-1")
    assert pod(NODES)["subdomain"] == service["metadata"]["name"] == NODES.name
    assert environment(NODES)["BEARLOOP_MASTER"] == f"{NODES.name}-0.{NODES.name}"
    template = job(NODES)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= template.items()
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_a_deadline_counts_from_when_a_pod_has_a_node() -> None:
    limited = replace(RUN, deadline=timedelta(hours=1))
    assert pod(limited)["activeDeadlineSeconds"] == 3600
    assert "activeDeadlineSeconds" not in job(limited)["spec"]
    assert "activeDeadlineSeconds" not in pod(replace(RUN, deadline=None))


def test_one_lost_pod_is_replaced_and_of_several_that_meet_none_is() -> None:
    def actions(request: JobRequest) -> list[str]:
        return [rule["action"] for rule in job(request)["spec"]["podFailurePolicy"]["rules"]]

    assert actions(RUN) == actions(replace(IMPORT, shards=3)) == ["FailJob", "Ignore", "Ignore"]
    assert actions(NODES) == ["FailJob", "FailJob", "FailJob"]


def test_the_longest_name_fits_a_label() -> None:
    longest = job_name("import", ID, 999_999)
    assert len(f"{longest}-99") <= 63
