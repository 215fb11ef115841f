"""The Kubernetes API as the worker uses it: objects are dictionaries that read like their YAML.

The only file that imports the client. Every call has a timeout, and every way to fail becomes a
`ClusterError` that says what was asked, of which object, and why it was not done.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

Thing = dict[str, Any]
"""A Kubernetes object."""
Things = list[Thing]

FIELD_MANAGER = "bearloop"
PAGE = 500
"""Objects in one answer of a list."""
LOG_LINES = 20_000
"""Of a pod's log, counted from its end; the cut to bytes comes after."""

LOST_LOG = re.compile(
    r"(failed to try resolving symlinks in path|unable to retrieve container logs for) [^\n]*"
)
"""What a node says, in place of the log, of a container that it has cleaned up already."""

CORE, BATCH, APPS = "/api/v1", "/apis/batch/v1", "/apis/apps/v1"
KINDS: Mapping[str, tuple[str, str]] = {
    "ConfigMap": (CORE, "configmaps"),
    "Event": (CORE, "events"),
    "Node": (CORE, "nodes"),
    "Pod": (CORE, "pods"),
    "Secret": (CORE, "secrets"),
    "Service": (CORE, "services"),
    "Job": (BATCH, "jobs"),
    "Deployment": (APPS, "deployments"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    # Kueue's account of a Job; there where a cluster has Kueue 0.15 or newer.
    "Workload": ("/apis/kueue.x-k8s.io/v1beta2", "workloads"),
}
"""Kind -> its group's path and its plural."""
WITHOUT_NAMESPACE = {"Node"}
GONE = 410
"""What a watch asked for is no longer known."""


class ClusterError(Exception):
    """The API server refused a call, or did not answer it."""

    def __init__(self, what: str, which: str, why: str, *, status: int | None = None) -> None:
        super().__init__(f"cannot {what} {which}: {why}")
        self.what = what
        self.which = which
        self.why = why
        self.status = status
        """Of the HTTP answer; None when there was none."""


class ExpiredError(ClusterError):
    """A watch or a page asked for a past that the API server has forgotten: list anew."""


@dataclass(frozen=True)
class Deadline:
    """What is left for a chain of calls."""

    at: float
    """By the monotonic clock."""

    @classmethod
    def after(cls, span: timedelta) -> "Deadline":
        """Start now."""
        return cls(monotonic() + span.total_seconds())

    def left(self) -> float:
        """Return the seconds that are left; never none, as 0 would mean for ever."""
        return max(self.at - monotonic(), 0.05)


class KubernetesApi:
    """One namespace of one cluster."""

    def __init__(
        self, namespace: str, *, timeout: timedelta, kubeconfig: str | None = None
    ) -> None:
        """Take `kubeconfig`, else what KUBECONFIG or `~/.kube/config` says, else the pod's own."""
        given = client.Configuration()
        if kubeconfig:
            config.load_kube_config(kubeconfig, client_configuration=given)
        else:
            config.load_config(client_configuration=given)
        # A worker's step is repeated anyway; a call that is repeated here outlasts its deadline.
        given.retries = False
        self.namespace = namespace
        self.timeout = timeout
        self._client = client.ApiClient(given)

    def create(self, thing: Thing, *, deadline: Deadline | None = None) -> bool:
        """Create it; False when one of its name was there, which is left as it is."""
        request = _Request("create", thing["kind"], _name(thing), method="POST", body=thing)
        try:
            self._ask(request, deadline=deadline)
        except ClusterError as error:
            if error.status != 409:
                raise
            return False
        return True

    def apply(self, thing: Thing, *, manager: str = FIELD_MANAGER) -> Thing:
        """Make it as described, server-side, whatever it was; return it as it is now.

        A field that `manager` no longer names, and that nobody else does, is taken away.
        """
        request = _Request(
            "apply",
            thing["kind"],
            _name(thing),
            method="PATCH",
            query={"fieldManager": manager, "force": "true"},
            body=thing,
            content="application/apply-patch+yaml",
        )
        return self._ask(request)

    def patch(self, kind: str, name: str, changes: Thing) -> Thing:
        """Merge the changes into it (RFC 7386) and return it."""
        content = "application/merge-patch+json"
        return self._ask(
            _Request("change", kind, name, method="PATCH", body=changes, content=content)
        )

    def get(self, kind: str, name: str) -> Thing | None:
        """Read it; None when there is none of this name."""
        try:
            return self._ask(_Request("read", kind, name))
        except ClusterError as error:
            if error.status != 404:
                raise
            return None

    def list(self, kind: str, labels: str = "", *, fields: str = "") -> Things:
        """List those with these labels and fields, both as selectors that kubectl takes too."""
        found: Things = []
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        while True:
            page = self._ask(_Request("list", kind, query=query))
            found += page["items"]
            onward = page["metadata"].get("continue", "")
            if not onward:
                return found
            query = {**query, "continue": onward}

    def delete(self, kind: str, name: str) -> None:
        """Delete it, and in the background what it owns; that it is absent already is fine."""
        body = {"propagationPolicy": "Background"}
        try:
            self._ask(_Request("delete", kind, name, method="DELETE", body=body))
        except ClusterError as error:
            if error.status != 404:
                raise

    def logs(self, pod: str, *, last_bytes: int) -> str:
        """Return the end of what the pod printed; empty when it has not begun or is gone."""
        query = {"tailLines": str(LOG_LINES)}
        request = _Request("read the log of", "Pod", pod, part="log", query=query)
        try:
            answer = self._send(request)
        except ClusterError as error:
            # 400: its container has not begun; 500: its node does not answer, or lost it.
            if error.status not in {400, 404, 500}:
                raise
            return ""
        kept = b""
        with self._translated(request):
            for chunk in answer.stream(2**16):
                kept = (kept + chunk)[-last_bytes:]
        text = kept.decode(errors="replace")
        return "" if is_lost_log(text) else text

    def events(self, kind: str, name: str) -> Things:
        """Return the events about one object, oldest first; the cluster forgets them in an hour."""
        fields = f"involvedObject.kind={kind},involvedObject.name={name}"
        return sorted(self.list("Event", fields=fields), key=_when)

    def version(self, kind: str, labels: str) -> str:
        """Return the present, as a point for a watch to start from."""
        query = {"labelSelector": labels, "limit": "1"}
        page = self._ask(_Request("list", kind, query=query))
        version: str = page["metadata"]["resourceVersion"]
        return version

    def watch(
        self, kind: str, labels: str, *, since: str, lasting: timedelta
    ) -> Iterator[tuple[str, Thing]]:
        """Yield each change after `since` as its type and the object; ends after `lasting`.

        Bookmarks come too. Raises ExpiredError where `since` is too old, ClusterError where the
        connection breaks or stays silent for longer than it may.
        """
        query = {
            "watch": "true",
            "labelSelector": labels,
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(lasting.total_seconds())),
        }
        request = _Request("watch", kind, query=query)
        # A connection that died without a word would keep the reader for ever.
        silence = lasting + self.timeout
        answer = self._send(request, silence=silence)
        with self._translated(request):
            for line in _lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR" and event["object"].get("code") == GONE:
                    raise self._expired(request)
                if event["type"] == "ERROR":
                    raise self._error(request, str(event["object"].get("message")))
                yield event["type"], event["object"]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, request: "_Request", *, deadline: Deadline | None = None) -> Thing:
        answer = self._send(request, deadline=deadline)
        with self._translated(request):
            read: Thing = json.loads(answer.data)
        return read

    def _send(
        self,
        request: "_Request",
        *,
        deadline: Deadline | None = None,
        silence: timedelta | None = None,
    ) -> BaseHTTPResponse:
        """Return the answer with its body unread; whoever calls reads it to the end."""
        most = deadline.left() if deadline else self.timeout.total_seconds()
        serialized = self._client.param_serialize(
            request.method,
            request.path(self.namespace),
            query_params=[(name, value) for name, value in request.query.items() if value],
            header_params={"Accept": "application/json, */*", "Content-Type": request.content},
            body=request.body,
            auth_settings=["BearerToken"],
        )
        timeout = (most, silence.total_seconds()) if silence else most
        with self._translated(request):
            answer: BaseHTTPResponse = self._client.call_api(
                *serialized, _request_timeout=timeout
            ).response
            if answer.status == GONE:
                raise self._expired(request)
            if answer.status >= 400:
                raise self._error(request, _why(answer), status=answer.status)
        return answer

    @contextmanager
    def _translated(self, request: "_Request") -> Iterator[None]:
        """Turn what the client raises into a ClusterError."""
        try:
            yield
        except client.ApiException as error:
            raise self._error(request, str(error.reason)) from error
        except (HTTPError, OSError) as error:
            raise self._error(request, f"no answer of the API server: {error}") from error
        except json.JSONDecodeError as error:
            why = "the answer is no JSON: does KUBECONFIG name an API server?"
            raise self._error(request, why) from error

    def _expired(self, request: "_Request") -> ExpiredError:
        error = self._error(request, "what it goes on from is forgotten", status=GONE)
        return ExpiredError(error.what, error.which, error.why, status=GONE)

    def _error(self, request: "_Request", why: str, *, status: int | None = None) -> ClusterError:
        which = f"{request.kind} {request.name}" if request.name else f"{request.kind} objects"
        where = "" if request.kind in WITHOUT_NAMESPACE else f" in namespace {self.namespace}"
        return ClusterError(request.verb, which + where, why, status=status)


def is_lost_log(text: str) -> bool:
    """Tell whether a node answers that a log is gone, which it does with status 200."""
    return LOST_LOG.fullmatch(text.strip()) is not None


@dataclass(frozen=True)
class _Request:
    """What is asked of which object."""

    verb: str
    """In words, for the error that may come of it."""
    kind: str
    name: str = ""
    part: str = ""
    """A subresource, e.g. `log`."""
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    body: Thing | None = None
    content: str = "application/json"

    def path(self, namespace: str) -> str:
        group, plural = KINDS[self.kind]
        where = "" if self.kind in WITHOUT_NAMESPACE else f"/namespaces/{namespace}"
        # What is created has a name, and no path of its own yet.
        name = "" if self.method == "POST" and not self.part else self.name
        return "/".join(piece for piece in (f"{group}{where}/{plural}", name, self.part) if piece)


def _why(answer: BaseHTTPResponse) -> str:
    """Return the API server's own words, or what there is of them."""
    text = answer.data.decode(errors="replace")
    try:
        said = json.loads(text)
    except json.JSONDecodeError:
        return f"{answer.status} {text.strip()[:500]}"
    return f"{said.get('message') or text[:500]} ({answer.status})"


def _lines(answer: BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.stream(2**16):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def _name(thing: Thing) -> str:
    name: str = thing["metadata"]["name"]
    return name


def _when(event: Thing) -> str:
    return str(
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )
