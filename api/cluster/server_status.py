"""What a deployment does and why it does not, read from its objects."""

from collections.abc import Iterable, Mapping, Sequence

from api.cluster.pod_objects import Thing
from api.cluster.protocol import SeenDeployment
from api.cluster.server_objects import BUNDLE, CONTAINER, REPLICAS, TEMPLATE
from bearloop.contract.jobs import ExitCode

Events = Mapping[str, Sequence[Thing]]
"""A pod's name -> what was noted of it, oldest first."""

IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
UNMADE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
MOUNTING = {"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}
LONGEST = 400
"""Characters of what somebody else said."""


def see_deployment(
    name: str, deployment: Thing, pods: Sequence[Thing], *, url: str, events: Events
) -> SeenDeployment:
    """Tell whether the newest bundle's servers, and no others, answer; if not, why."""
    digest = str(_annotations(deployment).get(BUNDLE, ""))
    newest, old = _split(deployment, pods)
    ready = [pod for pod in newest if _is_ready(pod)]
    wanted = int(_annotations(deployment).get(REPLICAS, "1"))
    others = [pod for pod in old if _annotations(pod).get(BUNDLE) != digest]
    if len(ready) >= wanted and not others:
        return SeenDeployment(name, digest, ready=True, url=url)
    return SeenDeployment(
        name,
        digest,
        ready=False,
        url=url,
        reason=_why(deployment, newest, wanted=wanted, old=others, events=events),
        # One that serves shows that the bundle is good, whatever befell another.
        refused=not ready and any(_ending(pod).get("exitCode") == _REFUSED for pod in newest),
    )


def speechless(deployment: Thing, pods: Sequence[Thing]) -> list[str]:
    """Name the newest pods that wait without a word: their events say why."""
    newest, _ = _split(deployment, pods)
    waiting = [pod for pod in newest if not _is_ready(pod) and not _complaint(pod)]
    return [pod["metadata"]["name"] for pod in waiting if not _container(pod).get("started")]


_REFUSED = int(ExitCode.input_at_fault)


def _split(deployment: Thing, pods: Iterable[Thing]) -> tuple[list[Thing], list[Thing]]:
    """Return the pods of the newest request, and those of before that may still answer."""
    mark = deployment["metadata"]["labels"].get(TEMPLATE)
    newest, old = [], []
    for pod in pods:
        metadata = pod["metadata"]
        if metadata["labels"].get(TEMPLATE) == mark and "deletionTimestamp" not in metadata:
            newest.append(pod)
        elif not _has_ended(pod):
            old.append(pod)
    return newest, old


def _has_ended(pod: Thing) -> bool:
    ended = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return ended or "terminated" in _container(pod).get("state", {})


def _is_ready(pod: Thing) -> bool:
    return _condition(pod, "Ready").get("status") == "True"


def _why(
    deployment: Thing, newest: Sequence[Thing], *, wanted: int, old: Sequence[Thing], events: Events
) -> str:
    waiting = [pod for pod in newest if not _is_ready(pod)]
    ready = len(newest) - len(waiting)
    if ready >= wanted:
        return f"{len(old)} {_servers(len(old))} of the bundle before still to drain"
    complaints = [told for pod in waiting if (told := _complaint(pod) or _noted(pod, events))]
    failure = _condition(deployment, "ReplicaFailure")
    if failure.get("status") == "True" and len(newest) < wanted:
        complaints.append(f"no server can be made: {_short(failure.get('message'))}")
    counted = f"{ready} of {wanted} servers ready" if wanted > 1 else "the server starts"
    return complaints[0] if complaints else counted


def _complaint(pod: Thing) -> str | None:
    """Say in plain words what keeps the pod, if the pod itself tells."""
    unplaced = _condition(pod, "PodScheduled")
    if unplaced.get("status") == "False":
        return f"no node takes the server: {_short(unplaced.get('message'))}"
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"the server was taken away ({status['reason']}): {_short(status.get('message'))}"
    waits = _container(pod).get("state", {}).get("waiting", {})
    if waits.get("reason") in IMAGE:
        image = pod["spec"]["containers"][0]["image"]
        return f"the image {image} cannot be pulled: {_short(waits.get('message'))}"
    if waits.get("reason") in UNMADE:
        return f"the container cannot be made: {_short(waits.get('message'))}"
    return _how_it_ended(pod)


def _how_it_ended(pod: Thing) -> str | None:
    ending = _ending(pod)
    if not ending:
        return None
    if ending.get("reason") == "OOMKilled":
        limit = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        return f"the server ran out of memory at {limit}: give the endpoint more `memory`"
    lines = str(ending.get("message") or "").strip().splitlines()
    said = f": {_short(lines[-1])}" if lines else ""
    count = _container(pod).get("restartCount", 0)
    times = f", {count} times" if count > 1 else ""
    return f"the server ended with exit code {ending.get('exitCode')}{times}{said}"


def _ending(pod: Thing) -> Thing:
    """Return how the pod's server ended last, if it is not ready since."""
    container = _container(pod)
    if _is_ready(pod):
        return {}
    now = container.get("state", {}).get("terminated")
    before = container.get("lastState", {}).get("terminated")
    return dict(now or before or {})


def _noted(pod: Thing, events: Events) -> str | None:
    noted = events.get(pod["metadata"]["name"], ())
    told = [event for event in noted if event.get("reason") in MOUNTING]
    return f"the server cannot start: {_short(told[-1].get('message'))}" if told else None


def _container(pod: Thing) -> Thing:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((dict(entry) for entry in statuses if entry["name"] == CONTAINER), {})


def _condition(thing: Thing, kind: str) -> Thing:
    conditions = thing.get("status", {}).get("conditions") or []
    return next((dict(entry) for entry in conditions if entry["type"] == kind), {})


def _annotations(thing: Thing) -> Thing:
    return dict(thing["metadata"].get("annotations") or {})


def _servers(count: int) -> str:
    return "server" if count == 1 else "servers"


def _short(text: object) -> str:
    words = " ".join(str(text or "no reason given").split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
