"""Endpoints in a namespace: a Deployment each, with what lets it be asked, scaled and drained."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.owner import owner_uid
from api.cluster.pod_objects import ENDPOINT_LABEL, Thing, made_labels, selector
from api.cluster.protocol import DeploymentRequest, SeenDeployment
from api.cluster.server_objects import (
    KINDS,
    OWNER,
    TOKENS,
    Place,
    object_name,
    owns_replicas,
    pod_selector,
    replicas_alone,
    scales,
    server_objects,
    tokens_mark,
    with_replicas,
)
from api.cluster.server_status import see_deployment, speechless

COMMAND = ("python", "-m", "inference")
APPLIED = "bearloop.io/applied"
"""Annotation of the Deployment: a digest of all the objects that were applied with it."""
REPLICAS_MANAGER = "bearloop-replicas"
"""Who holds the number of servers between a fixed one and an autoscaler's."""
AGAIN = timedelta(minutes=1)
"""How soon what somebody else changed or deleted is put right."""
LOOKED_INTO = 3
"""Pods whose events are read, at most."""
REFUSING = frozenset({400, 403, 404, 409, 413, 422})
"""Answers by which the API server says no to the objects themselves.

Too many requests (429) or a credential that just ran out (401) say nothing of them.
"""


class KubernetesServers:
    """The deployments of one release."""

    def __init__(
        self, api: KubernetesApi, rules: KubernetesRules, *, command: Sequence[str] = COMMAND
    ) -> None:
        self.api = api
        self.rules = rules
        self.command = command
        self._applied: dict[str, tuple[str, float]] = {}
        """Name -> digest of what this process applied last, and when."""
        self._refusals: dict[str, tuple[str, str]] = {}
        """Name -> digest of the bundle, and why the API server did not take its objects."""

    def deploy(self, request: DeploymentRequest) -> None:
        """Make the objects what the request asks for; nothing happens where they are."""
        owner = owner_uid(self.api, self.rules)
        things = server_objects(request, Place(self.rules, self.command, owner))
        mark = _digest(things)
        live = self._live(request.name)
        self._refusals.pop(request.name, None)
        if live is not None and self._is_fresh(request.name, live, mark=mark):
            return
        # What fails half-way leaves neither what was there nor what is asked for.
        self._applied.pop(request.name, None)
        try:
            self._apply(request, things, live=live, mark=mark)
        except ClusterError as error:
            # A quota's or a policy's no is the deployment's reason; no answer is the caller's.
            if error.status not in REFUSING:
                raise
            self._refusals[request.name] = (request.digest, str(error))
            return
        self._applied[request.name] = (mark, monotonic())

    def look(self, name: str) -> SeenDeployment | None:
        """Observe the deployment; None when there is none of this name."""
        live = self._live(name)
        digest, refusal = self._refusals.get(name, ("", None))
        if live is None and refusal:
            return SeenDeployment(name, digest, ready=False, url=None, reason=refusal)
        if live is None:
            return None
        pods = self._pods(name)
        quiet = speechless(live, pods)[:LOOKED_INTO]
        events = {pod: self.api.events("Pod", pod) for pod in quiet}
        seen = see_deployment(name, live, pods, url=self._url(name), events=events)
        # A change that was refused takes nothing from what answers.
        return replace(seen, reason=refusal) if refusal else seen

    def names(self) -> list[str]:
        """List the deployments that this installation made, and what was half made of one.

        One of the same name that was uninstalled may have left some, to answer on.
        """
        made = {**made_labels(self.rules), OWNER: owner_uid(self.api, self.rules)}
        wanted = f"{selector(made)},{ENDPOINT_LABEL}"
        things = [*self.api.list("Service", wanted), *self.api.list("Deployment", wanted)]
        return sorted({thing["metadata"]["labels"][ENDPOINT_LABEL] for thing in things})

    def undeploy(self, name: str) -> None:
        """Delete all of it; the servers drain."""
        self._applied.pop(name, None)
        self._refusals.pop(name, None)
        for kind in KINDS:
            self.api.delete(kind, self._name(name))

    def _is_fresh(self, name: str, live: Thing, *, mark: str) -> bool:
        applied, at = self._applied.get(name, ("", 0.0))
        there = (live["metadata"].get("annotations") or {}).get(APPLIED)
        return mark == applied == there and monotonic() - at < AGAIN.total_seconds()

    def _apply(
        self, request: DeploymentRequest, things: Sequence[Thing], *, live: Thing | None, mark: str
    ) -> None:
        for thing in things:
            if thing["kind"] == "Deployment":
                thing["metadata"]["annotations"][APPLIED] = mark
                self._apply_deployment(request, thing, live=live)
            else:
                self.api.apply(thing)
        for kind in KINDS:
            if kind not in {thing["kind"] for thing in things}:
                self.api.delete(kind, self._name(request.name))
        self._hasten_tokens(request)

    def _apply_deployment(
        self, request: DeploymentRequest, deployment: Thing, *, live: Thing | None
    ) -> None:
        if live is None:
            # All of them at once; the autoscaler would begin with one.
            self.api.apply(with_replicas(deployment, request.replicas))
            return
        if scales(request) and owns_replicas(live):
            self.api.apply(replicas_alone(live), manager=REPLICAS_MANAGER)
        self.api.apply(deployment)

    def _hasten_tokens(self, request: DeploymentRequest) -> None:
        """Have the kubelets write the changed Secret into the pods now, not within a minute.

        A kubelet looks at a pod's volumes when the pod changes, so it is given another annotation.
        """
        mark = tokens_mark(request)
        if mark is None:
            return
        for pod in self._pods(request.name):
            metadata = pod["metadata"]
            if (metadata.get("annotations") or {}).get(TOKENS) == mark:
                continue
            try:
                self.api.patch(
                    "Pod", metadata["name"], {"metadata": {"annotations": {TOKENS: mark}}}
                )
            except ClusterError as error:
                if error.status != 404:  # it ended meanwhile
                    raise

    def _live(self, name: str) -> Thing | None:
        found = self.api.get("Deployment", self._name(name))
        gone = found is None or "deletionTimestamp" in found["metadata"]
        return None if gone else found

    def _pods(self, name: str) -> list[Thing]:
        labels = pod_selector(self.rules.release, name)
        return self.api.list("Pod", selector(labels))

    def _name(self, name: str) -> str:
        return object_name(self.rules.release, name)

    def _url(self, name: str) -> str:
        port = self.rules.inference.port
        return f"http://{self._name(name)}.{self.rules.namespace}:{port}"


def _digest(things: Sequence[Thing]) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True).encode()).hexdigest()[:16]
