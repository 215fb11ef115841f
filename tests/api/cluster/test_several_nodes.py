"""What is said of a run of several pods that waits for GPUs: whom it waits for, or for nobody."""

import pytest

from api.cluster.protocol import Phase
from tests.api.cluster.pods import NO_GPU, Thing, a_job, a_node, a_pod, looked, unscheduled, user


def test_it_runs_and_says_what_the_next_of_its_pods_waits_for() -> None:
    pods = [a_pod("Running", index=0), unscheduled(NO_GPU, uid="b", job="a", index=1)]

    def said(gpus: int, *others: Thing) -> str:
        seen = looked(a_job(completions=2), *pods, nodes=[a_node(gpus)], others=[*pods, *others])
        assert (seen.phase, seen.attempt) == (Phase.running, "a")
        started, _, waits = str(seen.reason).partition(", the next one waits for 1 GPU: ")
        assert started == "1 of 2 pods run"
        return waits

    assert said(2, user(9)) == "1 of 2 in use by run 9, 1 by its other pods"
    assert said(3, user(9)) == "1 of 3 in use by run 9, 1 by its other pods, the rest by others"
    assert said(2) == "1 of 2 by its other pods, the rest by others"


@pytest.mark.parametrize(
    ("gpus", "nodes", "fit"), [(1, (2,), 2), (2, (3, 3), 2), (2, (8, 0), None), (1, (2, 1), None)]
)
def test_a_run_of_more_pods_than_all_nodes_take_blames_nobody(
    gpus: int, nodes: tuple[int, ...], fit: int | None
) -> None:
    pods = [
        *(a_pod("Running", uid=uid, job="j", index=n, gpus=gpus) for n, uid in enumerate("ab")),
        unscheduled(NO_GPU, uid="c", job="j", index=2, gpus=gpus),
    ]
    there = [a_node(count) for count in nodes]
    seen = looked(a_job(completions=3), *pods, nodes=there, others=[*pods, user(9)])
    said = str(seen.reason).partition("2 of 3 pods run, the next one ")[2]
    if fit is None:
        assert "in use by run 9" in said
        return
    each = f"{gpus} GPU{'s' if gpus > 1 else ''} each"
    room = f"all nodes together have room for {fit}"
    assert said == f"finds no room: its 3 pods take {each}, and {room}"


def test_nodes_that_let_no_pod_on_are_no_room() -> None:
    taints = [{"key": "gpu", "effect": "NoSchedule"}]
    shut = {**a_node(2), "spec": {"taints": taints}}
    pods = [unscheduled(NO_GPU, uid=uid, job="j", index=n) for n, uid in enumerate("ab")]
    seen = looked(a_job(completions=2), *pods, nodes=[a_node(1), shut], others=pods)
    assert "have room for 1" in str(seen.reason)
