"""Jobs, pods and nodes as the cluster shows them, for tests of what is said of them."""

from typing import Any

from api.cluster.job_reasons import see
from api.cluster.protocol import SeenJob
from api.cluster.waiting_reasons import Around

NAME = "run-j-1"
GPU = "nvidia.com/gpu"
Thing = dict[str, Any]


def a_job(*conditions: Thing, labels: Thing | None = None, **spec: Any) -> Thing:
    rules = [
        {"action": "FailJob", "onExitCodes": {"values": [42]}},
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"values": [75]}},
    ]
    return {
        "metadata": {"name": NAME, "labels": labels or {}},
        "spec": {"completions": 1, "podFailurePolicy": {"rules": rules}, **spec},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, reason: str = "", message: str = "", *, status: str = "True") -> Thing:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def a_pod(phase: str, *conditions: Thing, uid: str = "a", **more: Any) -> Thing:
    """Return a pod that asks for one GPU; `more`: state, gone, index, at, status, title."""
    notes = {"bearloop.io/title": more.get("title", "run 3"), "bearloop.io/project": "zoo"}
    index = (
        {"batch.kubernetes.io/job-completion-index": str(more["index"])}
        if more.get("index") is not None
        else {}
    )
    return {
        "metadata": {
            "name": f"{NAME}-{uid}",
            "namespace": "woods",
            "uid": uid,
            "creationTimestamp": more.get("at", "2027-01-01T10:00:00Z"),
            "labels": {"bearloop.io/job": more.get("job", uid)},
            "annotations": {**notes, **index, **more.get("notes", {})},
            **({"deletionTimestamp": "2027-01-01T11:00:00Z"} if more.get("gone") else {}),
        },
        "spec": {
            **({"nodeName": "oak"} if more.get("placed", True) else {}),
            "nodeSelector": more.get("selects", {}),
            "containers": [
                {
                    "image": "registry/trainer:1",
                    "resources": {
                        "requests": {"cpu": "4", "memory": "8Gi", GPU: str(more.get("gpus", 1))},
                        "limits": {"memory": "8Gi", GPU: str(more.get("gpus", 1))},
                    },
                }
            ],
        },
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"state": more.get("state", {})}],
            **more.get("status", {}),
        },
    }


def unscheduled(message: str, **more: Any) -> Thing:
    said = condition("PodScheduled", "Unschedulable", message, status="False")
    return a_pod("Pending", said, placed=False, **more)


def waiting(reason: str, message: str = "") -> Thing:
    return a_pod("Pending", state={"waiting": {"reason": reason, "message": message}})


def terminated(code: int, reason: str = "Error", message: str = "", **more: Any) -> Thing:
    ended = {"exitCode": code, "reason": reason, "message": message}
    ended["finishedAt"] = more.pop("ended", "2027-01-01T10:30:00Z")
    return a_pod("Failed", *more.pop("conditions", ()), state={"terminated": ended}, **more)


def disruption(reason: str, message: str = "") -> Thing:
    return condition("DisruptionTarget", reason, message)


def a_node(gpus: int, cpu: str = "16", memory: str = "64Gi", **labels: str) -> Thing:
    allocatable = {GPU: str(gpus), "cpu": cpu, "memory": memory}
    return {"metadata": {"labels": labels}, "status": {"allocatable": allocatable}}


def user(number: int, gpus: int = 1, **more: Any) -> Thing:
    return a_pod("Running", uid=f"u{number}", title=f"run {number}", gpus=gpus, **more)


def looked(job: Thing | None, *pods: Thing, **around: Any) -> SeenJob:
    seen = see(NAME, job, pods, around=Around(GPU, **around))
    assert seen is not None
    return seen


NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are …"
