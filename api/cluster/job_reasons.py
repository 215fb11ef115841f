"""A Job and its pods, read as one job: where it is, and why it waits or died; pure."""

import enum
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from api.cluster.job_objects import QUEUE_LABEL
from api.cluster.pod_objects import JOB_LABEL, Thing
from api.cluster.pod_reasons import (
    exit_code,
    is_lost,
    is_over,
    is_overdue,
    why_ended,
    why_leaving,
    why_pending,
)
from api.cluster.protocol import Phase, SeenJob
from api.cluster.waiting_reasons import Around
from bearloop.contract.jobs import ExitCode

INDEX: Final = "batch.kubernetes.io/job-completion-index"
OF_JOB: Final = "kueue.x-k8s.io/job-uid"
"""Label of Kueue's Workload, its account of a Job."""
QUOTA: Final = "QuotaReserved"
"""Condition of a Workload; while its Job waits it is false, and says why."""
UNASSIGNED: Final = "couldn't assign flavors to pod set main: "


class Question(enum.Enum):
    """What must be read beside a Job and its pods to say why it waits."""

    nothing = enum.auto()
    nodes = enum.auto()
    events_of_job = enum.auto()
    events_of_pod = enum.auto()
    workload = enum.auto()


def see(name: str, job: Thing | None, pods: Sequence[Thing], *, around: Around) -> SeenJob | None:
    """Return what became of a launch; None when nothing of it is there."""
    newest = newest_pods(pods)
    attempt = newest[0]["metadata"]["uid"] if newest else None
    if job is None:
        why = why_leaving(newest, asked=True)
        running = SeenJob(name, Phase.running, attempt=attempt, reason=why, leaving=True)
        return running if newest else None
    if _condition(job, "Complete"):
        return SeenJob(name, Phase.succeeded, 0, attempt)
    if overdue := next((pod for pod in pods if is_overdue(pod)), None):
        return _overdue(name, overdue)
    if failed := _condition(job, "Failed"):
        return _failed(name, job, failed, newest=newest)
    if job["spec"].get("suspend"):
        return SeenJob(name, Phase.pending, attempt=attempt, reason=_why_suspended(job, around))
    return _active(name, job, newest, around=around)


def alone(name: str) -> SeenJob:
    """Return what a launch is of which only the Service was made."""
    return SeenJob(name, Phase.pending, reason="starts")


def question(job: Thing | None, pods: Sequence[Thing]) -> Question:
    """Tell what `see` needs to know of the world around."""
    if job is None:
        return Question.nothing
    if job["spec"].get("suspend"):
        return Question.workload if _queue_of(job) else Question.nothing
    if _condition(job, "Complete") or _condition(job, "Failed"):
        return Question.nothing
    newest = newest_pods(pods)
    if not newest:
        return Question.events_of_job
    if any(_is_unscheduled(pod) for pod in newest):
        return Question.nodes
    if waiting_pod(newest) is not None:
        return Question.events_of_pod
    return Question.nothing


def newest_pods(pods: Sequence[Thing]) -> list[Thing]:
    """Return the newest pod of each index, in the order of the indexes."""
    newest: dict[int, Thing] = {}
    for pod in sorted(pods, key=lambda pod: (_created(pod), not is_over(pod))):
        newest[_index(pod)] = pod
    return [newest[index] for index in sorted(newest)]


def waiting_pod(newest: Sequence[Thing]) -> Thing | None:
    """Return the first pod that has a node, and does not run yet."""
    placed = (pod for pod in newest if pod["spec"].get("nodeName"))
    return next((pod for pod in placed if pod["status"].get("phase") == "Pending"), None)


def log_name(pod: Thing) -> str:
    """Name a pod's log so that names sort by age."""
    return f"{re.sub(r'[^0-9TZ]', '', _created(pod))}-{pod['metadata']['name']}"


def job_of(thing: Thing) -> str:
    """Return the name of the launch to which an object belongs."""
    return str(thing["metadata"]["labels"][JOB_LABEL])


def _active(name: str, job: Thing, newest: Sequence[Thing], *, around: Around) -> SeenJob:
    attempt = newest[0]["metadata"]["uid"] if newest else None
    around = replace(around, together=job["spec"].get("completions", 1))
    runs = [pod for pod in newest if pod["status"].get("phase") == "Running"]
    waits = [pod for pod in newest if pod["status"].get("phase") == "Pending"]
    if runs:
        leaves = why_leaving(runs)
        reason = leaves or _why_partly(job, runs, waits, around=around)
        return SeenJob(
            name, Phase.running, attempt=attempt, reason=reason, leaving=leaves is not None
        )
    if waits:
        return SeenJob(name, Phase.pending, reason=why_pending(waits[0], around))
    lost = next((pod for pod in newest if is_lost(pod)), None)
    if lost is not None:
        return SeenJob(name, Phase.pending, reason=f"{why_ended(lost)}; it starts again")
    if newest:  # its Job is about to say how it ended
        return SeenJob(name, Phase.running, attempt=attempt)
    return SeenJob(name, Phase.pending, reason=_why_no_pod(around))


def _why_partly(
    job: Thing, runs: Sequence[Thing], waits: Sequence[Thing], *, around: Around
) -> str | None:
    if not waits:
        return None
    pods = job["spec"].get("completions", 1)
    return f"{len(runs)} of {pods} pods run, the next one {why_pending(waits[0], around)}"


def _why_no_pod(around: Around) -> str:
    refused = [event for event in around.events if event.get("reason") == "FailedCreate"]
    if refused:
        # `Error creating: pods "…" is forbidden: exceeded quota: …`
        said = str(refused[-1].get("message", "")).removeprefix("Error creating: ")
        return f"the cluster refuses its pod: {said}"
    had_one = any(event.get("reason") == "SuccessfulCreate" for event in around.events)
    return "its pod is gone; it starts again" if had_one else "starts"


def _why_suspended(job: Thing, around: Around) -> str:
    queue = _queue_of(job)
    if queue is None:
        return "is suspended: somebody has to resume its Job"
    uid = job["metadata"].get("uid")
    own = [w for w in around.workloads if w["metadata"].get("labels", {}).get(OF_JOB) == uid]
    held = [found for one in own if (found := _condition(one, QUOTA, "False"))]
    # `LocalQueue team-a doesn't exist`; `couldn't assign flavors to pod set main: insufficient …`
    said = str(held[-1].get("message", "")).removeprefix(UNASSIGNED) if held else ""
    return f"waits in queue {queue}" + (f": {said}" if said else "")


def _queue_of(job: Thing) -> str | None:
    queue: str | None = job["metadata"].get("labels", {}).get(QUEUE_LABEL)
    return queue


def _overdue(name: str, pod: Thing) -> SeenJob:
    """Tell of a pod that its node ended: asked to, it may have left with 75, and been replaced."""
    limit = timedelta(seconds=pod["spec"].get("activeDeadlineSeconds", 0))
    reason = f"it took longer than its deadline of {limit}"
    return SeenJob(name, Phase.failed, None, pod["metadata"]["uid"], reason, overdue=True)


def _failed(name: str, job: Thing, failed: Thing, *, newest: Sequence[Thing]) -> SeenJob:
    attempt = newest[0]["metadata"]["uid"] if newest else None
    rule = _matched_rule(job, failed)
    culprit = _culprit(newest)
    story = why_ended(culprit) if culprit else None
    if rule and "onPodConditions" in rule:
        lost = story or "one of its pods was taken away"
        return SeenJob(name, Phase.failed, None, attempt, lost, disrupted=True)
    if rule:
        code = int(rule["onExitCodes"]["values"][0])
        return SeenJob(name, Phase.failed, code, attempt)
    code_seen = exit_code(culprit) if culprit else None
    vanished = f"its pods are gone: {failed.get('message') or failed.get('reason')}"
    return SeenJob(name, Phase.failed, code_seen, attempt, story if culprit else vanished)


def _matched_rule(job: Thing, failed: Thing) -> Thing | None:
    """Return the rule that failed the Job: its condition is what outlives the pod."""
    match = re.search(r"rule at index (\d+)", str(failed.get("message")))
    if failed.get("reason") != "PodFailurePolicy" or match is None:
        return None
    rule: Thing = job["spec"]["podFailurePolicy"]["rules"][int(match[1])]
    return rule


def _culprit(newest: Sequence[Thing]) -> Thing | None:
    """Return the pod that failed first: the others were ended because of it."""
    failed = [pod for pod in newest if pod["status"].get("phase") == "Failed"]
    of_themselves = [pod for pod in failed if exit_code(pod) != ExitCode.interrupted]
    return min(of_themselves or failed, key=_ended_at, default=None)


def _condition(thing: Thing, kind: str, status: str = "True") -> Thing | None:
    for condition in thing.get("status", {}).get("conditions", ()):
        if condition["type"] == kind and condition["status"] == status:
            found: Thing = condition
            return found
    return None


def _is_unscheduled(pod: Thing) -> bool:
    return pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")


def _index(pod: Thing) -> int:
    return int(pod["metadata"].get("annotations", {}).get(INDEX, 0))


def _created(pod: Thing) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _ended_at(pod: Thing) -> datetime:
    statuses = pod["status"].get("containerStatuses") or [{}]
    ended = statuses[0].get("state", {}).get("terminated", {}).get("finishedAt")
    return datetime.fromisoformat(ended or _created(pod))
