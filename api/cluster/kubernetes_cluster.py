"""The cluster that Kubernetes is: jobs as Jobs, endpoints as Deployments, changes by watching."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_jobs import KubernetesJobs
from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.kubernetes_servers import KubernetesServers
from api.cluster.pod_objects import ENDPOINT_LABEL, JOB_LABEL, made_labels, selector
from api.cluster.protocol import DeploymentRequest, JobRequest, SeenDeployment, SeenJob
from api.cluster.watch import Watch

PROGRAMS: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "importer": ("python", "-m", "importer"),
        "trainer": ("python", "-m", "trainer"),
        "inference": ("python", "-m", "inference"),
    }
)
"""Program -> the command that its image runs."""
WATCHED = ("Job", "Pod", "Deployment")


class KubernetesCluster:
    """One namespace, as the worker asks for it."""

    def __init__(
        self,
        api: KubernetesApi,
        rules: KubernetesRules,
        *,
        call_deadline: timedelta,
        programs: Mapping[str, Sequence[str]] = PROGRAMS,
    ) -> None:
        """Make everything in the API's namespace; `call_deadline` bounds a launch."""
        self.rules = rules
        self._watch = Watch(
            api, labels=selector(made_labels(rules)), named_by=(JOB_LABEL, ENDPOINT_LABEL)
        )
        self._jobs = KubernetesJobs(
            api, rules, watch=self._watch, call_deadline=call_deadline, programs=programs
        )
        self._servers = KubernetesServers(api, rules, command=programs["inference"])

    def begin(self) -> None:
        """Watch from now on; without it, `wait` only waits."""
        self._watch.begin(WATCHED)

    def launch(self, request: JobRequest) -> None:
        self._jobs.launch(request)

    def jobs(self) -> list[SeenJob]:
        return self._jobs.all()

    def job(self, name: str) -> SeenJob | None:
        return self._jobs.look(name)

    def remove(self, name: str) -> None:
        self._jobs.remove(name)

    def logs(self, name: str) -> dict[str, str]:
        return self._jobs.logs(name)

    def deploy(self, request: DeploymentRequest) -> None:
        self._servers.deploy(request)

    def deployment(self, name: str) -> SeenDeployment | None:
        return self._servers.look(name)

    def deployments(self) -> list[str]:
        return self._servers.names()

    def undeploy(self, name: str) -> None:
        self._servers.undeploy(name)

    def wait(self, timeout: timedelta) -> None:
        self._watch.wait(timeout)

    def wake(self) -> None:
        self._watch.wake()

    def changed(self) -> set[str]:
        return self._watch.take()

    def end(self) -> None:
        """Stop watching."""
        self._watch.end()
