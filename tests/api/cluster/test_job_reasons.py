"""What the worker says of a job, from what the cluster says of its Job and pods."""

from typing import Any

import pytest

from api.cluster.job_reasons import Question, log_name, question, see
from api.cluster.protocol import Phase, SeenJob
from api.cluster.waiting_reasons import Around
from tests.api.cluster.pods import (
    GPU,
    NAME,
    NO_GPU,
    Thing,
    a_job,
    a_node,
    a_pod,
    condition,
    disruption,
    looked,
    terminated,
    unscheduled,
    user,
    waiting,
)


@pytest.mark.parametrize(
    ("pod", "around", "reason"),
    [
        (
            unscheduled(NO_GPU),
            {"nodes": [a_node(2)], "others": [user(9), user(7), user(8, placed=False)]},
            "waits for 1 GPU: 2 of 2 in use by run 7 and run 9",
        ),
        (
            unscheduled(NO_GPU),
            {"nodes": [a_node(4)], "others": [user(10, 2), user(9), user(11)]},
            "waits for 1 GPU: 4 of 4 in use by run 9, run 10 and run 11",
        ),
        (
            unscheduled(NO_GPU),
            {
                "nodes": [a_node(2)],
                "others": [user(9), user(7, notes={"bearloop.io/project": "secret"})],
            },
            "waits for 1 GPU: 2 of 2 in use by another project's run and run 9",
        ),
        (
            unscheduled(NO_GPU, gpus=2),
            {"nodes": [a_node(2), a_node(2)], "others": [user(7), user(9)]},
            "waits for 2 GPUs on one node: 2 of 4 in use by run 7 and run 9, the rest by others",
        ),
        (
            unscheduled(NO_GPU),
            {"nodes": [a_node(2)]},
            "waits for 1 GPU: all 2 are in use by others",
        ),
        (unscheduled(NO_GPU), {"nodes": [a_node(1)]}, "waits for 1 GPU: it is in use by others"),
        (
            unscheduled(NO_GPU),
            {"nodes": None, "others": [user(9), user(7)]},
            "waits for 1 GPU; run 7 and run 9 use 2",
        ),
        (
            unscheduled(NO_GPU),
            {"nodes": None, "others": [user(7, 2)]},
            "waits for 1 GPU; run 7 uses 2",
        ),
        (unscheduled(NO_GPU), {"nodes": None}, "waits for 1 GPU"),
        (
            unscheduled(NO_GPU, gpus=8),
            {"nodes": [a_node(2), a_node(1)], "others": [user(7)]},
            "no node has 8 GPUs: the most is 2",
        ),
        (
            unscheduled(NO_GPU),
            {"nodes": [a_node(0)]},
            "no node has a GPU (nvidia.com/gpu) for it",
        ),
        (
            unscheduled(NO_GPU, selects={"kind": "a100"}),
            {"nodes": [a_node(8, kind="t4"), a_node(0, kind="a100")]},
            "no node has a GPU (nvidia.com/gpu) for it",
        ),
        (
            unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
            {"nodes": [a_node(2)]},
            "waits for 4 CPUs: no node has as much free",
        ),
        (
            unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
            {"nodes": [a_node(2, cpu="3500m")]},
            "no node has 4 CPUs: the most is 3.5",
        ),
        (
            unscheduled("0/1 nodes are available: 1 Insufficient memory, 1 Insufficient cpu."),
            {"nodes": [a_node(2, memory="4000Mi")]},
            "no node has 8Gi of memory: the most is 3.9Gi",
        ),
        (
            unscheduled("0/1 nodes are available: 1 Insufficient memory."),
            {"nodes": None},
            "waits for 8Gi of memory: no node has as much free",
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 node(s) had untolerated taint {spot: }. preemption: no"
            ),
            {"nodes": [a_node(2)]},
            "no node takes it: 0/1 nodes are available: 1 node(s) had untolerated taint {spot: }",
        ),
        (
            waiting(
                "ImagePullBackOff",
                'Back-off pulling image "registry/trainer:1": ErrImagePull: manifest unknown',
            ),
            {},
            "cannot pull the image registry/trainer:1: manifest unknown",
        ),
        (
            waiting("ErrImagePull", "manifest unknown"),
            {},
            "cannot pull the image registry/trainer:1: manifest unknown",
        ),
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "registry/trainer:1"'),
            {},
            "cannot pull the image registry/trainer:1: ImagePullBackOff",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "jobs-s3" not found'),
            {},
            "the Secret jobs-s3 is missing in namespace woods: the operator makes it",
        ),
        (
            waiting("CreateContainerConfigError", "container has runAsNonRoot"),
            {},
            "its container cannot be made: container has runAsNonRoot",
        ),
        (
            waiting("ContainerCreating"),
            {"events": [{"type": "Normal", "reason": "Pulling", "message": "Pulling image"}]},
            "its node fetches the image registry/trainer:1",
        ),
        (
            waiting("ContainerCreating"),
            {
                "events": [
                    {"type": "Normal", "reason": "Scheduled", "message": "to oak"},
                    {"type": "Warning", "reason": "FailedMount", "message": "no such volume"},
                ]
            },
            "its pod cannot start: no such volume",
        ),
        (waiting("ContainerCreating"), {}, "starts"),
        (
            a_pod("Pending", condition("PodScheduled", "SchedulingGated", status="False")),
            {},
            "waits for the gate on its pod to be lifted, as a queue does",
        ),
    ],
)
def test_why_it_waits(pod: Thing, around: Thing, reason: str) -> None:
    seen = looked(a_job(), pod, **around)
    assert (seen.phase, seen.attempt, seen.reason) == (Phase.pending, None, reason)


FAILED = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


@pytest.mark.parametrize(
    ("pod", "code", "reason"),
    [
        (terminated(1), 1, "it crashed with exit code 1"),
        (
            terminated(1, message="Traceback …\nValueError: no bears\n"),
            1,
            "it crashed with exit code 1: ValueError: no bears",
        ),
        (
            terminated(137, "OOMKilled"),
            137,
            "out of memory: it used more than its limit of 8Gi",
        ),
        (
            terminated(128, "StartError", "exec: no such file"),
            128,
            "its container cannot start: exec: no such file",
        ),
        (
            a_pod(
                "Failed",
                status={
                    "reason": "Evicted",
                    "message": "Usage of EmptyDir volume scratch exceeds the limit 10Gi.",
                    "containerStatuses": [],
                },
            ),
            None,
            "it was evicted: Usage of EmptyDir volume scratch exceeds the limit 10Gi.",
        ),
        (
            a_pod("Failed", status={"reason": "UnexpectedAdmissionError"}),
            None,
            "its pod failed: UnexpectedAdmissionError",
        ),
    ],
)
def test_why_it_died(pod: Thing, code: int | None, reason: str) -> None:
    seen = looked(a_job(FAILED), pod)
    assert seen == SeenJob(NAME, Phase.failed, code, "a", reason)


def test_a_job_whose_pods_are_gone_says_so() -> None:
    seen = looked(a_job(FAILED))
    reason = "its pods are gone: Job has reached the specified backoff limit"
    assert seen == SeenJob(NAME, Phase.failed, None, None, reason)


def overdue(code: int, **more: Any) -> Thing:
    """A pod that was ended two hours after it had a node, and answered so."""
    pod = terminated(code, status={"reason": "DeadlineExceeded"}, **more)
    pod["spec"]["activeDeadlineSeconds"] = 7200
    return pod


@pytest.mark.parametrize(
    "left",
    [
        (a_job(FAILED), overdue(137)),
        (a_job(condition("Failed", "PodFailurePolicy", "rule at index 2")), overdue(75)),
        # One that had reached a checkpoint was replaced before anybody looked.
        (a_job(), overdue(75), a_pod("Running", uid="b", at="2027-01-01T12:00:00Z")),
        (a_job(), overdue(75), unscheduled(NO_GPU, uid="b", at="2027-01-01T12:00:00Z")),
    ],
)
def test_a_deadline_is_told_whatever_its_pod_answered(left: tuple[Thing, ...]) -> None:
    job, *pods = left
    reason = "it took longer than its deadline of 2:00:00"
    assert looked(job, *pods) == SeenJob(NAME, Phase.failed, None, "a", reason, overdue=True)


def test_a_run_that_waits_longer_than_its_deadline_waits_on() -> None:
    pod = unscheduled(NO_GPU, at="2020-01-01T10:00:00Z")
    pod["spec"]["activeDeadlineSeconds"] = 60
    assert looked(a_job(), pod, nodes=[a_node(1)]).phase is Phase.pending


@pytest.mark.parametrize(
    ("found", "code", "disrupted"),
    [
        ("Container main for pod woods/x failed with exit code 42", 42, False),
        ("Pod woods/x has condition DisruptionTarget", None, True),
        ("Container main for pod woods/x failed with exit code 75", 75, False),
    ],
)
def test_the_rule_that_failed_a_job_outlives_its_pods(
    found: str, code: int | None, disrupted: bool
) -> None:
    rule = [42, None, 75].index(code)
    message = f"{found} matching FailJob rule at index {rule}"
    seen = looked(a_job(condition("Failed", "PodFailurePolicy", message)))
    assert (seen.phase, seen.exit_code, seen.disrupted) == (Phase.failed, code, disrupted)


def test_of_several_nodes_the_first_that_crashed_is_to_blame() -> None:
    first = terminated(3, uid="b", index=1, ended="2027-01-01T10:20:00Z")
    ended_for_it = terminated(75, uid="a", index=0, ended="2027-01-01T10:20:00Z")
    later = terminated(9, uid="c", index=2, ended="2027-01-01T10:25:00Z")
    seen = looked(a_job(FAILED), later, ended_for_it, first)
    assert (seen.exit_code, seen.attempt, seen.disrupted) == (3, "a", False)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("PreemptionByScheduler", "it was preempted by a pod of higher priority"),
        ("DeletionByTaintManager", "its node was tainted, drained or lost"),
        ("EvictionByEvictionAPI", "it was evicted, as when its node is drained"),
        ("DeletionByPodGC", "its node is gone"),
        ("NewReason", "the cluster took its pod away (NewReason)"),
    ],
)
def test_a_disrupted_pod_leaves_and_starts_again(reason: str, said: str) -> None:
    leaving = a_pod("Running", disruption(reason), gone=True)
    seen = looked(a_job(), leaving)
    assert seen == SeenJob(NAME, Phase.running, None, "a", f"{said}; it leaves", leaving=True)
    seen = looked(a_job(), terminated(143, conditions=[disruption(reason)]))
    assert (seen.phase, seen.reason) == (Phase.pending, f"{said}; it starts again")


def test_a_nodes_own_reason_is_told() -> None:
    pressure = disruption("TerminationByKubelet", "The node was low on resource: memory.")
    seen = looked(a_job(), terminated(137, conditions=[pressure]))
    assert seen.reason is not None
    assert "its node ended it: The node was low on resource: memory." in seen.reason


def test_the_newest_pod_is_the_attempt_and_older_ones_count_no_more() -> None:
    old = terminated(75, uid="old", at="2027-01-01T09:00:00Z")
    seen = looked(a_job(), a_pod("Running", uid="new"), old)
    assert seen == SeenJob(NAME, Phase.running, None, "new")
    crashed = terminated(1, uid="new")
    assert looked(a_job(FAILED), crashed, old).exit_code == 1


def test_a_suspended_job_waits_in_its_queue_and_never_failed() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "team-a"}
    suspended = condition("Suspended", "JobSuspended")
    queued = looked(a_job(suspended, labels=labels, suspend=True))
    assert queued == SeenJob(NAME, Phase.pending, reason="waits in queue team-a")
    preempted = looked(a_job(suspended, labels=labels, suspend=True), a_pod("Running", gone=True))
    assert (preempted.phase, preempted.reason) == (Phase.pending, "waits in queue team-a")
    held = looked(a_job(suspend=True))
    assert held.reason == "is suspended: somebody has to resume its Job"


def test_a_pod_that_the_cluster_refuses_is_told_from_the_jobs_events() -> None:
    refused = {
        "type": "Warning",
        "reason": "FailedCreate",
        "message": 'Error creating: pods "x" is forbidden: exceeded quota: gpus',
    }
    assert question(a_job(), []) is Question.events_of_job
    seen = looked(a_job(), events=[refused])
    reason = 'the cluster refuses its pod: pods "x" is forbidden: exceeded quota: gpus'
    assert (seen.phase, seen.reason) == (Phase.pending, reason)
    assert looked(a_job()).reason == "starts"
    made = {"type": "Normal", "reason": "SuccessfulCreate", "message": "Created pod: x"}
    assert looked(a_job(), events=[made]).reason == "its pod is gone; it starts again"


def test_a_job_is_there_until_its_last_pod_is_gone() -> None:
    assert see(NAME, None, [], around=Around(GPU)) is None
    leaving = looked(None, a_pod("Running", gone=True))
    reason = "it was asked to end on node oak"
    assert leaving == SeenJob(NAME, Phase.running, None, "a", reason, leaving=True)
    assert looked(None, unscheduled(NO_GPU, gone=True)).reason == "it was asked to end"


@pytest.mark.parametrize("pod", [terminated(1), terminated(42), a_pod("Succeeded")])
def test_how_a_pod_ended_is_told_when_its_job_says_so_and_not_before(pod: Thing) -> None:
    assert looked(a_job(), pod) == SeenJob(NAME, Phase.running, None, "a")


def test_success_is_success() -> None:
    assert looked(a_job(condition("Complete")), a_pod("Succeeded")) == SeenJob(
        NAME, Phase.succeeded, 0, "a"
    )


@pytest.mark.parametrize(
    ("job", "pods", "asked"),
    [
        (a_job(), [a_pod("Running")], Question.nothing),
        (a_job(), [unscheduled(NO_GPU)], Question.nodes),
        (a_job(), [waiting("ContainerCreating")], Question.events_of_pod),
        (a_job(condition("Complete")), [], Question.nothing),
        (a_job(suspend=True), [], Question.nothing),
        (a_job(condition("Suspended", status="False")), [unscheduled(NO_GPU)], Question.nodes),
        (None, [a_pod("Running", gone=True)], Question.nothing),
    ],
)
def test_only_what_is_needed_is_asked_for(
    job: Thing | None, pods: list[Thing], asked: Question
) -> None:
    assert question(job, pods) is asked


def test_the_names_of_logs_sort_by_age() -> None:
    younger = a_pod("Running", uid="a", at="2027-01-01T10:00:01Z")
    older = a_pod("Running", uid="b", at="2027-01-01T10:00:00Z")
    assert log_name(older) == "20270101T100000Z-run-j-1-b"
    assert log_name(older) < log_name(younger)
