"""What a pod's own status says, in plain words; pure."""

import re
from collections.abc import Sequence
from typing import Final

from api.cluster.pod_objects import Thing
from api.cluster.waiting_reasons import ENDED, Around, why_unscheduled
from bearloop.contract.jobs import ExitCode

IMAGE_REASONS: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
DISRUPTIONS: Final = {
    "PreemptionByScheduler": "it was preempted by a pod of higher priority",
    "DeletionByTaintManager": "its node was tainted, drained or lost",
    "EvictionByEvictionAPI": "it was evicted, as when its node is drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node ended it",
}
"""Reasons of the condition DisruptionTarget."""
STARTS: Final = "starts"
LONGEST: Final = 300
"""Characters of somebody else's words."""


def why_pending(pod: Thing, around: Around) -> str:
    """Say what a pod that does not run yet waits for."""
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        if scheduled.get("reason") == "SchedulingGated":
            return "waits for the gate on its pod to be lifted, as a queue does"
        return why_unscheduled(pod, str(scheduled.get("message", "")), around)
    waiting = _state(pod).get("waiting") or {}
    reason, said = waiting.get("reason"), str(waiting.get("message") or "")
    if reason in IMAGE_REASONS:
        return f"cannot pull the image {_image(pod)}: {_of_the_registry(said) or reason}"
    if reason == "CreateContainerConfigError":
        return _why_misconfigured(pod, said)
    if reason in {"CreateContainerError", "RunContainerError"}:
        return f"its container cannot be made: {_cut(said)}"
    return _by_events(pod, around.events)


def why_leaving(pods: Sequence[Thing], *, asked: bool = False) -> str | None:
    """Say why one of the running pods is being taken away; None when none is."""
    for pod in pods:
        disruption = _disruption(pod)
        if disruption is not None:
            return f"{disruption}; it leaves"
        if asked or pod["metadata"].get("deletionTimestamp"):
            node = pod["spec"].get("nodeName")
            return f"it was asked to end on node {node}" if node else "it was asked to end"
    return None


def why_ended(pod: Thing) -> str | None:
    """Say why an ended pod ended; None where its exit code says all."""
    status, ended = pod["status"], _state(pod).get("terminated") or {}
    said = _cut(str(status.get("message") or ""))
    disruption = _disruption(pod)
    if disruption is not None:
        return f"{disruption}: {said}" if said else disruption
    if status.get("reason") == "Evicted":
        return f"it was evicted: {said}"
    if ended.get("reason") == "OOMKilled":
        return f"out of memory: it used more than its limit of {_memory(pod)}"
    if ended.get("reason") in {"ContainerCannotRun", "StartError"}:
        return f"its container cannot start: {_cut(str(ended.get('message') or ''))}"
    if not ended:
        return f"its pod failed: {status.get('reason') or said or 'nobody says why'}"
    if ended["exitCode"] == ExitCode.interrupted:
        return "it was interrupted after a checkpoint"
    if ended["exitCode"] in {0, ExitCode.input_at_fault}:
        return None
    return _crash(ended)


def exit_code(pod: Thing) -> int | None:
    """Return the exit code of an ended pod; None when it has none."""
    code = (_state(pod).get("terminated") or {}).get("exitCode")
    return None if code is None else int(code)


def is_over(pod: Thing) -> bool:
    """Tell whether nothing of it runs any more."""
    return pod["status"].get("phase") in ENDED


def is_lost(pod: Thing) -> bool:
    """Tell whether it ended in a way that lets another one take its place."""
    if pod["status"].get("phase") != "Failed":
        return False
    return exit_code(pod) == ExitCode.interrupted or _disruption(pod) is not None


def is_overdue(pod: Thing) -> bool:
    """Tell whether its node ended it at its deadline."""
    return bool(pod["status"].get("reason") == "DeadlineExceeded")


def condition(pod: Thing, kind: str) -> Thing | None:
    """Return one of a pod's conditions, whatever its status."""
    for found in pod["status"].get("conditions", ()):
        if found["type"] == kind:
            return dict(found)
    return None


def _why_misconfigured(pod: Thing, said: str) -> str:
    missing = re.search(r'secret "([^"]+)" not found', said)
    if missing:
        where = pod["metadata"].get("namespace")
        return f"the Secret {missing[1]} is missing in namespace {where}: the operator makes it"
    return f"its container cannot be made: {_cut(said)}"


def _by_events(pod: Thing, events: Sequence[Thing]) -> str:
    """Tell by the newest event what a pod that has a node is busy with."""
    for event in reversed(events):
        said = _cut(str(event.get("message") or ""))
        if event.get("type") == "Warning":
            return f"its pod cannot start: {said}"
        if event.get("reason") == "Pulling":
            return f"its node fetches the image {_image(pod)}"
        if event.get("reason") in {"Pulled", "Created", "Started"}:
            return STARTS
    return STARTS


def _disruption(pod: Thing) -> str | None:
    found = condition(pod, "DisruptionTarget")
    if found is None or found["status"] != "True":
        return None
    reason = str(found.get("reason"))
    if reason == "TerminationByKubelet":
        return f"{DISRUPTIONS[reason]}: {_cut(str(found.get('message') or ''))}"
    return DISRUPTIONS.get(reason) or f"the cluster took its pod away ({reason})"


def _crash(ended: Thing) -> str:
    """Quote the last thing it printed: often it is the error."""
    lines = str(ended.get("message") or "").strip().splitlines()
    code = f"it crashed with exit code {ended['exitCode']}"
    return f"{code}: {_cut(lines[-1].strip())}" if lines else code


def _of_the_registry(said: str) -> str:
    """Drop what the kubelet puts before the registry's words, which changes from look to look."""
    words = re.sub(r'^Back-off pulling image "[^"]*"(: )?', "", said)
    return _cut(re.sub(r"^(ErrImagePull|ImagePullBackOff|InvalidImageName): ", "", words))


def _state(pod: Thing) -> Thing:
    statuses = pod["status"].get("containerStatuses") or [{}]
    state: Thing = statuses[0].get("state") or {}
    return state


def _image(pod: Thing) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _memory(pod: Thing) -> str:
    resources = pod["spec"]["containers"][0].get("resources", {})
    return str(resources.get("limits", {}).get("memory", "memory"))


def _cut(said: str) -> str:
    words = " ".join(said.split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
