"""Jobs on Kubernetes: launched, observed, removed; what they look like is told by pure files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic

from api.cluster import job_reasons
from api.cluster.job_objects import job_object, service_object, why_invalid
from api.cluster.job_reasons import Question
from api.cluster.kubernetes import ClusterError, Deadline, KubernetesApi, Thing
from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.owner import owner_uid
from api.cluster.pod_objects import JOB_LABEL, made_labels, selector
from api.cluster.protocol import InvalidLaunchError, JobRequest, SeenJob
from api.cluster.waiting_reasons import Around
from api.cluster.watch import Watch

LOG_BYTES = 4 * 2**20
"""Kept of one pod's log, from its end."""
STALE = timedelta(seconds=5)
"""A list is read anew after that even where no change was heard of: a watch may be deaf."""
NODES_STALE = timedelta(seconds=15)
FORBIDDEN, UNKNOWN = 403, 404
INVALID = frozenset({400, 422})
"""Answers by which the API server says that an object can never be made as it is described.

A quota (403) may have room later, and whatever else it answers says nothing of the object.
"""


class KubernetesJobs:
    """The jobs of one release in one namespace."""

    def __init__(
        self,
        api: KubernetesApi,
        rules: KubernetesRules,
        *,
        watch: Watch,
        call_deadline: timedelta,
        programs: Mapping[str, Sequence[str]],
    ) -> None:
        """Launch within `call_deadline` or not at all; `watch` says when a list is out of date."""
        self._api = api
        self._rules = rules
        self._watch = watch
        self._call_deadline = call_deadline
        self._programs = programs
        self._made = selector(made_labels(rules))
        self._list = _List()
        self._nodes: tuple[float, Sequence[Thing] | None] | None = None

    def launch(self, request: JobRequest) -> None:
        """Create the launch's Job; a late answer of the API server is none."""
        deadline = Deadline.after(self._call_deadline)
        owner = owner_uid(self._api, self._rules)
        things = [job_object(request, self._rules, owner_uid=owner, programs=self._programs)]
        if request.nodes > 1:
            things.insert(0, service_object(request, self._rules, owner_uid=owner))
        for thing in things:
            self._create(request, thing, deadline=deadline)
        self._list = _List()

    def all(self) -> list[SeenJob]:
        """List the launches that are there, and those of which only a Service was made."""
        self._list = self._read_list()
        services = self._api.list("Service", f"{self._made},{JOB_LABEL}")
        lonely = {job_reasons.job_of(service) for service in services} - set(self._list.jobs)
        seen = (self._see(name) for name in self._list.jobs)
        return [
            *(job for job in seen if job is not None),
            *(job_reasons.alone(name) for name in sorted(lonely)),
        ]

    def look(self, name: str) -> SeenJob | None:
        """Observe one launch; its pods count as long as they are there."""
        if self._is_stale() or not self._list.knows(name):
            # Another worker may have launched it since: only what was read just now says that it
            # is not there. An older look at one that is there costs nothing but time.
            self._list = self._read_list()
        return self._see(name)

    def remove(self, name: str) -> None:
        """Delete the Job, and with it its pods: they get their grace, and `look` sees them go."""
        self._api.delete("Job", name)
        self._api.delete("Service", name)
        self._list = _List()

    def logs(self, name: str) -> dict[str, str]:
        """Return what each pod that is still there printed, oldest first."""
        pods = self._api.list("Pod", f"{JOB_LABEL}={name}")
        printed = {
            job_reasons.log_name(pod): self._api.logs(pod["metadata"]["name"], last_bytes=LOG_BYTES)
            for pod in pods
        }
        return {pod: printed[pod] for pod in sorted(printed) if printed[pod]}

    def _create(self, request: JobRequest, thing: Thing, *, deadline: Deadline) -> None:
        try:
            self._api.create(thing, deadline=deadline)
        except ClusterError as error:
            if error.status not in INVALID:
                raise
            raise InvalidLaunchError(why_invalid(request, str(error))) from error

    def _see(self, name: str) -> SeenJob | None:
        job, pods = self._list.jobs.get(name), self._list.pods.get(name, ())
        return job_reasons.see(name, job, pods, around=self._around(name, job, pods))

    def _around(self, name: str, job: Thing | None, pods: Sequence[Thing]) -> Around:
        """Read what it takes to say why a job waits, and nothing for one that does not."""
        around = Around(self._rules.gpu_resource)
        match job_reasons.question(job, pods):
            case Question.nothing:
                return around
            case Question.nodes:
                others = [pod for found in self._list.pods.values() for pod in found]
                return replace(around, nodes=self._read_nodes(), others=others)
            case Question.events_of_job:
                return replace(around, events=self._events("Job", name))
            case Question.events_of_pod:
                pod = job_reasons.waiting_pod(job_reasons.newest_pods(pods))
                assert pod is not None, "the question is about one"
                return replace(around, events=self._events("Pod", pod["metadata"]["name"]))
            case Question.workload:
                return replace(around, workloads=self._workloads())

    def _is_stale(self) -> bool:
        heard_nothing = self._watch.listens and self._list.heard == self._watch.changes
        return not heard_nothing or monotonic() - self._list.at > STALE.total_seconds()

    def _read_list(self) -> "_List":
        heard, at = self._watch.changes, monotonic()
        read = _List(heard=heard, at=at)
        # Jobs first: of one that is there, a pod that was there by then is seen too.
        for job in self._api.list("Job", f"{self._made},{JOB_LABEL}"):
            read.jobs[job_reasons.job_of(job)] = job
        for pod in self._api.list("Pod", f"{self._made},{JOB_LABEL}"):
            read.pods.setdefault(job_reasons.job_of(pod), []).append(pod)
        return read

    def _read_nodes(self) -> Sequence[Thing] | None:
        if not self._rules.reads_nodes:
            return None
        if self._nodes is None or monotonic() - self._nodes[0] > NODES_STALE.total_seconds():
            self._nodes = (monotonic(), _if_allowed(lambda: self._api.list("Node")))
        return self._nodes[1]

    def _events(self, kind: str, name: str) -> Sequence[Thing]:
        if (kind, name) not in self._list.events:
            found = _if_allowed(lambda: self._api.events(kind, name))
            self._list.events[kind, name] = found or ()
        return self._list.events[kind, name]

    def _workloads(self) -> Sequence[Thing]:
        if self._list.workloads is None:
            self._list.workloads = _if_allowed(lambda: self._api.list("Workload")) or ()
        return self._list.workloads


@dataclass
class _List:
    """All jobs and their pods, as read at one time; nothing before the first reading."""

    jobs: dict[str, Thing] = field(default_factory=dict)
    pods: dict[str, list[Thing]] = field(default_factory=dict)
    events: dict[tuple[str, str], Sequence[Thing]] = field(default_factory=dict)
    workloads: Sequence[Thing] | None = None
    """Kueue's, read when the first job waits in a queue."""
    heard: int = -1
    """The watch's count when it was read."""
    at: float = float("-inf")
    """By the monotonic clock."""

    def knows(self, name: str) -> bool:
        """Tell whether anything of a launch was there."""
        return name in self.jobs or name in self.pods


def _if_allowed(read: Callable[[], Sequence[Thing]]) -> Sequence[Thing] | None:
    """Read what only helps to say more; None where the worker may not, or no such kind is."""
    try:
        return read()
    except ClusterError as error:
        if error.status not in {FORBIDDEN, UNKNOWN}:
            raise
        return None
