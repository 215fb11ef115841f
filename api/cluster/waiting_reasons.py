"""Why no node takes a pod, in plain words; pure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.cluster.pod_objects import JOB_LABEL, PROJECT, TITLE, Thing
from api.cluster.quantities import quantity

ENDED: Final = ("Succeeded", "Failed")
"""Phases of a pod that uses nothing any more."""
KEEPS_OUT: Final = ("NoSchedule", "NoExecute")
"""Effects of a taint that keep a pod off its node."""
CORDONED: Final = "node.kubernetes.io/unschedulable"
"""Key of the taint that a cordoned node has, or is about to have."""
OF_THE_CLUSTER: Final = "node.kubernetes.io/"
"""How the keys begin of taints that tell of a node's health: nobody should tolerate them."""


@dataclass(frozen=True)
class Around:
    """What a pod waits among."""

    gpu: str
    """Name of the resource, e.g. `nvidia.com/gpu`."""
    nodes: Sequence[Thing] | None = None
    """None where they may not be read."""
    others: Sequence[Thing] = ()
    """The release's pods, those of the job itself among them or not."""
    together: int = 1
    """Pods of the job that run at once or not at all."""
    events: Sequence[Thing] = ()
    """Of the job or of its pod, oldest first."""
    workloads: Sequence[Thing] = ()
    """Kueue's accounts of jobs, this one's among them."""


def why_unscheduled(pod: Thing, said: str, around: Around) -> str:
    """Say why the scheduler finds no node; `said` are its own words."""
    gpus = int(asked(pod, around.gpu))
    if gpus and _lacks(said, around.gpu):
        return _why_no_gpu(pod, gpus, around)
    if _lacks(said, "memory"):
        wanted = _request(pod, "memory")
        return _why_full(pod, "memory", wanted=f"{wanted} of memory", around=around)
    if _lacks(said, "cpu"):
        wanted = f"{asked(pod, 'cpu'):g}"
        cores = "CPU" if wanted == "1" else "CPUs"
        return _why_full(pod, "cpu", wanted=f"{wanted} {cores}", around=around)
    return f"no node takes it: {_shortened(said)}"


def asked(pod: Thing, resource: str) -> float:
    """Return how much of a resource the pod's containers ask for together."""
    return sum(
        quantity(_asked_of(container).get(resource, "0")) for container in pod["spec"]["containers"]
    )


def named(names: Sequence[str]) -> str:
    """Join names as people do."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _why_no_gpu(pod: Thing, gpus: int, around: Around) -> str:
    waits = f"waits for {_gpus(gpus)}"
    holding = [other for other in around.others if _holds(other, around.gpu)]
    users = [other for other in holding if not _is_own(other, pod)]
    if around.nodes is None:
        used = sum(int(asked(user, around.gpu)) for user in users)
        uses = "uses" if len(users) == 1 else "use"
        return f"{waits}; {named(_titles(users, pod))} {uses} {used}" if users else waits
    nodes = _selected(pod, around.nodes)
    most = int(max((_size(node, around.gpu) for node in nodes), default=0))
    if most == 0:
        return f"no node has a GPU ({around.gpu}) for it"
    if most < gpus:
        return f"no node has {_gpus(gpus)}: the most is {most}"
    if barriers := _why_shut_out(pod, around.gpu, nodes):
        return f"no node with {'a GPU' if gpus == 1 else _gpus(gpus)} takes it: {barriers}"
    shut = {node["metadata"].get("name") for node in nodes if _barrier(pod, node)}
    sizes = [int(_size(node, around.gpu)) for node in nodes if not _barrier(pod, node)]
    fit = sum(size // gpus for size in sizes)
    if fit < around.together:
        each = f"its {around.together} pods take {_gpus(gpus)} each"
        return f"finds no room: {each}, and all nodes together have room for {fit}"
    placed = [user for user in holding if user["spec"]["nodeName"] not in shut]
    why = _in_use(pod, sum(sizes), placed, gpu=around.gpu)
    return f"{waits}{' on one node' if gpus > 1 else ''}: {why}"


def _in_use(pod: Thing, total: int, holding: Sequence[Thing], *, gpu: str) -> str:
    users = [other for other in holding if not _is_own(other, pod)]
    used = sum(int(asked(user, gpu)) for user in users)
    own = sum(int(asked(other, gpu)) for other in holding) - used
    told = []
    if users:
        told.append(f"{min(used, total)} of {total} in use by {named(_titles(users, pod))}")
    if own:
        told.append(f"{own} by its other pods" if users else f"{own} of {total} by its other pods")
    if not told:
        return f"all {total} are in use by others" if total > 1 else "it is in use by others"
    if used + own < total:
        told.append("the rest by others")
    return ", ".join(told)


def _why_full(pod: Thing, resource: str, *, wanted: str, around: Around) -> str:
    if around.nodes is not None:
        nodes = _selected(pod, around.nodes)
        most = max((_size(node, resource) for node in nodes), default=0.0)
        if most < asked(pod, resource):
            shown = f"{most:g}" if resource == "cpu" else f"{most / 2**30:.1f}Gi"
            return f"no node has {wanted}: the most is {shown}"
        if barriers := _why_shut_out(pod, resource, nodes):
            return f"no node with {wanted} takes it: {barriers}"
    return f"waits for {wanted}: no node has as much free"


def _holds(other: Thing, gpu: str) -> bool:
    is_placed = bool(other["spec"].get("nodeName"))
    ended = other.get("status", {}).get("phase") in ENDED
    return is_placed and not ended and asked(other, gpu) > 0


def _is_own(other: Thing, pod: Thing) -> bool:
    """Tell whether both are pods of one launch."""
    labels = (thing["metadata"].get("labels", {}) for thing in (other, pod))
    first, second = (of.get(JOB_LABEL) for of in labels)
    return first is not None and first == second


def _titles(users: Iterable[Thing], pod: Thing) -> list[str]:
    """Name the users; no project learns what another one runs."""
    own = _note(pod, PROJECT)
    titles = {
        _note(user, TITLE) if _note(user, PROJECT) == own else "another project's run"
        for user in users
    }
    return sorted(titles, key=_by_number)


def _note(pod: Thing, name: str) -> str:
    return str(pod["metadata"].get("annotations", {}).get(name, pod["metadata"]["name"]))


def _by_number(title: str) -> tuple[str, int]:
    words, _, number = title.rpartition(" ")
    return (words, int(number)) if number.isdigit() else (title, 0)


def _selected(pod: Thing, nodes: Sequence[Thing]) -> list[Thing]:
    """Return the nodes that the pod's selector names."""
    wanted = pod["spec"].get("nodeSelector", {}).items()
    return [node for node in nodes if wanted <= node["metadata"].get("labels", {}).items()]


def _why_shut_out(pod: Thing, resource: str, nodes: Sequence[Thing]) -> str | None:
    """Say what keeps the pod off all nodes that are large enough; None when one lets it on."""
    large = [node for node in nodes if _size(node, resource) >= asked(pod, resource)]
    barriers = Counter(_barrier(pod, node) for node in large)
    if None in barriers:
        return None
    program = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", "trainer")
    way_out = f"{program}.tolerations lets {'imports' if program == 'importer' else 'runs'} onto it"
    told = {str(barrier): count for barrier, count in barriers.items()}
    return ", ".join(
        _told(barrier, told[barrier], way_out=way_out)
        for barrier in sorted(told, key=lambda barrier: barrier.startswith(OF_THE_CLUSTER))
    )


def _told(barrier: str, count: int, *, way_out: str) -> str:
    if barrier == CORDONED:
        return f"{count} {'is' if count == 1 else 'are'} cordoned"
    said = f"{count} {'has' if count == 1 else 'have'} the taint {barrier}"
    return said if barrier.startswith(OF_THE_CLUSTER) else f"{said} ({way_out})"


def _barrier(pod: Thing, node: Thing) -> str | None:
    """Return the first taint that keeps the pod off a node, as `key` or `key=value`."""
    spec = node.get("spec", {})
    cordon = [{"key": CORDONED, "effect": "NoSchedule"}] if spec.get("unschedulable") else []
    tolerations = pod["spec"].get("tolerations") or ()
    for taint in (*cordon, *(spec.get("taints") or ())):
        if taint["effect"] in KEEPS_OUT and not any(_tolerates(t, taint) for t in tolerations):
            return f"{taint['key']}={taint['value']}" if taint.get("value") else str(taint["key"])
    return None


def _tolerates(toleration: Thing, taint: Thing) -> bool:
    """Match as Kubernetes does: what a toleration leaves out, it takes any of."""
    key, effect = toleration.get("key"), toleration.get("effect")
    if (key and key != taint["key"]) or (effect and effect != taint["effect"]):
        return False
    operator = toleration.get("operator") or "Equal"
    same = (toleration.get("value") or "") == (taint.get("value") or "")
    return operator == "Exists" or (operator == "Equal" and bool(key) and same)


def _size(node: Thing, resource: str) -> float:
    return quantity(node.get("status", {}).get("allocatable", {}).get(resource, "0"))


def _asked_of(container: Thing) -> dict[str, Any]:
    resources = container.get("resources", {})
    return {**resources.get("limits", {}), **resources.get("requests", {})}


def _request(pod: Thing, resource: str) -> str:
    return str(_asked_of(pod["spec"]["containers"][0]).get(resource, "0"))


def _lacks(said: str, resource: str) -> bool:
    return re.search(rf"Insufficient {re.escape(resource)}([,. ]|$)", said) is not None


def _shortened(said: str) -> str:
    """Drop what the scheduler adds on preemption, which says the same again."""
    return said.partition(". ")[0].strip().rstrip(".")


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
