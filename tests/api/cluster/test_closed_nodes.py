"""What is said of a pod that nodes keep out: by a taint, or because they are cordoned."""

from typing import Any

import pytest

from tests.api.cluster.pods import (
    GPU,
    NO_GPU,
    Thing,
    a_job,
    a_node,
    looked,
    unscheduled,
    user,
)

WAY_OUT = "(trainer.tolerations lets runs onto it)"
UNHEALTHY = "2 are cordoned, 2 have the taint node.kubernetes.io/not-ready"


def tainted(gpus: int, key: str, effect: str = "NoSchedule", *, value: str = "") -> Thing:
    taint = {"key": key, "effect": effect, **({"value": value} if value else {})}
    return {**a_node(gpus), "spec": {"taints": [taint]}}


def cordoned(gpus: int, name: str = "ash") -> Thing:
    node = a_node(gpus)
    return {**node, "metadata": {"name": name}, "spec": {"unschedulable": True}}


def why(*nodes: Thing, tolerates: Any = (), gpus: int = 1, **around: Any) -> str | None:
    pod = unscheduled(NO_GPU, gpus=gpus)
    pod["spec"]["tolerations"] = list(tolerates)
    return looked(a_job(), pod, nodes=nodes, **around).reason


@pytest.mark.parametrize(
    ("gpus", "nodes", "reason"),
    [
        (
            1,
            [cordoned(2), tainted(4, GPU), a_node(0)],
            f"no node with a GPU takes it: 1 has the taint nvidia.com/gpu {WAY_OUT}, 1 is cordoned",
        ),
        (
            2,
            [
                a_node(1),
                cordoned(2),
                cordoned(2),
                tainted(1, "spot"),
                tainted(2, "node.kubernetes.io/not-ready"),
                tainted(2, "node.kubernetes.io/not-ready"),
                tainted(2, "team", "NoExecute", value="forest"),
            ],
            f"no node with 2 GPUs takes it: 1 has the taint team=forest {WAY_OUT}, {UNHEALTHY}",
        ),
        # To tolerate it would not help.
        (8, [tainted(2, GPU)], "no node has 8 GPUs: the most is 2"),
        (1, [a_node(1), tainted(8, GPU)], "waits for 1 GPU: it is in use by others"),
        (1, [tainted(1, GPU, "PreferNoSchedule")], "waits for 1 GPU: it is in use by others"),
    ],
)
def test_only_nodes_that_let_it_on_are_said_to_be_in_use(
    gpus: int, nodes: list[Thing], reason: str
) -> None:
    assert why(*nodes, gpus=gpus) == reason


def test_what_runs_on_a_closed_node_keeps_nobody_waiting() -> None:
    elsewhere = user(9)
    elsewhere["spec"]["nodeName"] = "elm"
    nodes = [a_node(2), cordoned(4, "oak")]
    reason = "waits for 1 GPU: 1 of 2 in use by run 9, the rest by others"
    assert why(*nodes, others=[user(7, 4), elsewhere]) == reason


@pytest.mark.parametrize(
    ("toleration", "is_let"),
    [
        ({"key": "team", "operator": "Exists"}, True),
        ({"key": "team", "operator": "Equal", "value": "forest"}, True),
        ({"key": "team", "value": "forest", "effect": "NoSchedule"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "desert"}, False),
        ({"key": "team"}, False),
        ({"value": "forest"}, False),
        ({"key": "tame", "operator": "Exists"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "team", "operator": "Gt", "value": "forest"}, False),
    ],
)
def test_a_toleration_matches_as_kubernetes_has_it(toleration: Thing, is_let: bool) -> None:
    tolerates = [{"key": "other", "operator": "Exists"}, toleration]
    said = why(tainted(1, "team", value="forest"), tolerates=tolerates)
    assert (said == "waits for 1 GPU: it is in use by others") is is_let, said


def test_who_tolerates_everything_is_taken_by_cordoned_nodes_too() -> None:
    nodes = [cordoned(2), tainted(2, GPU, "NoExecute")]
    reason = "waits for 1 GPU: all 4 are in use by others"
    assert why(*nodes, tolerates=[{"operator": "Exists"}]) == reason


def test_closed_nodes_have_no_cores_and_no_memory_for_it() -> None:
    pod = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
    seen = looked(a_job(), pod, nodes=[a_node(2, cpu="2"), cordoned(0)])
    assert seen.reason == "no node with 4 CPUs takes it: 1 is cordoned"
    pod = unscheduled("0/1 nodes are available: 1 Insufficient memory.")
    pod["metadata"]["labels"] = {"app.kubernetes.io/component": "importer"}
    seen = looked(a_job(), pod, nodes=[tainted(0, "spot"), tainted(0, "spot")])
    taint = "2 have the taint spot (importer.tolerations lets imports onto it)"
    assert seen.reason == f"no node with 8Gi of memory takes it: {taint}"
