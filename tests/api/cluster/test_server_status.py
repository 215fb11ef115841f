"""What is said of an endpoint for what its objects show, as one table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from api.cluster.server_status import see_deployment, speechless

URL = "http://forest-bears-3.woods:8080"
Thing = dict[str, Any]


def deployment(*, replicas: int = 1, conditions: Sequence[Thing] = ()) -> Thing:
    return {
        "metadata": {
            "labels": {"bearloop.io/template": "t2"},
            "annotations": {"bearloop.io/bundle": "new", "bearloop.io/replicas": str(replicas)},
        },
        "status": {"conditions": list(conditions)},
    }


def pod(
    container: Mapping[str, Any] | None = None,
    *,
    template: str = "t2",
    bundle: str = "new",
    leaving: bool = False,
    **status: Any,
) -> Thing:
    told = [{"name": "server", **container}] if container is not None else []
    return {
        "metadata": {
            "name": f"pod-{template}",
            "labels": {"bearloop.io/template": template},
            "annotations": {"bearloop.io/bundle": bundle},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}),
        },
        "spec": {
            "containers": [
                {"image": "registry/inference:9", "resources": {"limits": {"memory": "1Gi"}}}
            ]
        },
        "status": {"phase": "Running", "containerStatuses": told, **status},
    }


def ready(**kinds: Any) -> Thing:
    running = {"state": {"running": {}}, "started": True}
    return pod(running, conditions=[{"type": "Ready", "status": "True"}], **kinds)


def ended(code: int, message: str = "", *, reason: str = "Error", times: int = 1) -> Thing:
    ending = {"exitCode": code, "reason": reason, "message": message}
    return pod(
        {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": ending},
            "restartCount": times,
        }
    )


def waiting(reason: str, message: str) -> Thing:
    return pod({"state": {"waiting": {"reason": reason, "message": message}}}, phase="Pending")


OLD = ready(template="t1", bundle="old")
DRAINING = ready(template="t1", bundle="old", leaving=True)
GONE = pod({"state": {"terminated": {"exitCode": 0}}}, template="t1", bundle="old", leaving=True)
RESIZED = ready(template="t1", bundle="new")
UNPLACED = pod(
    phase="Pending",
    conditions=[
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient cpu."}
    ],
)
FORBIDDEN = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
STARTING = pod({"state": {"running": {}}, "started": False})

TABLE = [
    # deployment, pods, ready, refused, reason
    (deployment(), [ready()], True, False, None),
    (deployment(), [ready(), GONE], True, False, None),
    (deployment(), [ready(), RESIZED], True, False, None),
    (deployment(), [ready(), STARTING], True, False, None),
    (deployment(replicas=2), [ready(), ready()], True, False, None),
    (deployment(), [], False, False, "the server starts"),
    (deployment(), [STARTING], False, False, "the server starts"),
    (deployment(), [OLD], False, False, "the server starts"),
    (deployment(), [RESIZED], False, False, "the server starts"),
    (deployment(), [ready(leaving=True)], False, False, "the server starts"),
    (deployment(replicas=2), [ready(), STARTING], False, False, "1 of 2 servers ready"),
    (
        deployment(),
        [ready(), OLD],
        False,
        False,
        "1 server of the bundle before still to drain",
    ),
    (
        deployment(),
        [ready(), OLD, DRAINING],
        False,
        False,
        "2 servers of the bundle before still to drain",
    ),
    (
        deployment(),
        [ended(42, "INFO starting\nERROR refused to serve: golden outputs differ\n"), OLD],
        False,
        True,
        "the server ended with exit code 42: ERROR refused to serve: golden outputs differ",
    ),
    (
        deployment(replicas=2),
        [ready(), ended(42, "refused to serve: no bundle there")],
        False,
        False,
        "the server ended with exit code 42: refused to serve: no bundle there",
    ),
    (
        deployment(),
        [ended(1, "Traceback\nOSError: disk", times=4)],
        False,
        False,
        "the server ended with exit code 1, 4 times: OSError: disk",
    ),
    (
        deployment(),
        [ended(137, reason="OOMKilled")],
        False,
        False,
        "the server ran out of memory at 1Gi: give the endpoint more `memory`",
    ),
    (
        deployment(),
        [waiting("ImagePullBackOff", "Back-off pulling: not found")],
        False,
        False,
        "the image registry/inference:9 cannot be pulled: Back-off pulling: not found",
    ),
    (
        deployment(),
        [waiting("CreateContainerConfigError", 'secret "inference-s3" not found')],
        False,
        False,
        'the container cannot be made: secret "inference-s3" not found',
    ),
    (
        deployment(),
        [UNPLACED],
        False,
        False,
        "no node takes the server: 0/3 nodes: 3 Insufficient cpu.",
    ),
    (
        deployment(),
        [pod(phase="Failed", reason="Evicted", message="low on ephemeral-storage")],
        False,
        False,
        "the server was taken away (Evicted): low on ephemeral-storage",
    ),
    (
        deployment(conditions=[FORBIDDEN]),
        [],
        False,
        False,
        "no server can be made: exceeded quota: small",
    ),
]


@pytest.mark.parametrize(("made", "pods", "is_ready", "refused", "reason"), TABLE)
def test_what_is_seen_says_how_the_endpoint_is(
    made: Thing, pods: list[Thing], *, is_ready: bool, refused: bool, reason: str | None
) -> None:
    seen = see_deployment("bears-3", made, pods, url=URL, events={})
    assert (seen.ready, seen.refused, seen.reason) == (is_ready, refused, reason)
    assert (seen.digest, seen.url) == ("new", URL)


def test_a_pod_that_says_nothing_is_explained_by_its_events() -> None:
    silent = waiting("ContainerCreating", "")
    assert speechless(deployment(), [silent, OLD, ready(), UNPLACED]) == ["pod-t2"]
    noted = {
        "pod-t2": [
            {"reason": "Scheduled", "message": "to node 1"},
            {"reason": "FailedMount", "message": 'secret "forest-bears-3"\nnot found'},
        ]
    }
    seen = see_deployment("bears-3", deployment(), [silent], url=URL, events=noted)
    assert seen.reason == 'the server cannot start: secret "forest-bears-3" not found'


def test_what_others_say_is_cut_short() -> None:
    seen = see_deployment("b", deployment(), [ended(1, "x" * 9000)], url=URL, events={})
    assert seen.reason is not None
    assert len(seen.reason) < 500
