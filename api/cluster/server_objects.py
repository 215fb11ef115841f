"""The objects of one deployment, as dictionaries that read like their YAML.

The roll-out is told by them: one server more than asked for starts, and once it is ready one of
before is asked to end. That one lingers, so that whoever has not heard of its end is answered.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from api.cluster.kubernetes_rules import KubernetesRules
from api.cluster.pod_objects import (
    CONTAINER_SECURITY,
    ENDPOINT_LABEL,
    PROJECT,
    TITLE,
    Thing,
    made_labels,
    own_mounts,
    own_variables,
    own_volumes,
    owner_references,
    pod_spec,
)
from api.cluster.protocol import DeploymentRequest
from bearloop.contract.environment import ENDPOINT_TOKENS, LINGER, THREADS

KINDS = ("HorizontalPodAutoscaler", "Deployment", "PodDisruptionBudget", "Service", "Secret")
"""All that a deployment may be made of, in the order in which it is taken away."""
MANAGER = "bearloop"
"""Who owns the fields that these objects name."""
TEMPLATE = "bearloop.io/template"
"""Label: a digest of what the pods are made from."""
OWNER = "bearloop.io/owner"
"""Label: the uid of the owner in whose time the object was made, its own or not."""
BUNDLE, REPLICAS, TOKENS = "bearloop.io/bundle", "bearloop.io/replicas", "bearloop.io/tokens"
"""Annotations: the bundle's digest, servers at least, and a digest of the token hashes."""
CONTAINER = "server"
TOKEN_FOLDER, TOKEN_FILE = "/etc/bearloop/endpoint", "tokens"
LONGEST_NAME = 63
"""Of a Service, whose name is a label in DNS."""
KEEPS_ALIVE = timedelta(seconds=5)
"""How long a server keeps a connection on which nobody asks."""
TELLING = timedelta(seconds=5)
"""How long the nodes may take to hear that a server ends: one second is common."""


@dataclass(frozen=True)
class Place:
    """Where a deployment runs, and by what."""

    rules: KubernetesRules
    command: Sequence[str]
    """What starts a server; the address is added."""
    owner: str
    """Uid of the ConfigMap that owns what is made, unless it outlives the release."""


def object_name(release: str, name: str) -> str:
    """Name a deployment's objects: a DNS label that no other release of the namespace makes.

    Release `a-b` with endpoint `c` and release `a` with endpoint `b-c` differ by the digest, which
    ends in a letter, as no job's name does.
    """
    digest = hashlib.sha256(f"{release}/{name}".encode()).hexdigest()
    tag = digest[:5].translate(str.maketrans("0123456789", "ghijklmnop"))
    # A release may begin with a digit and hold dots, a Service may not.
    first = "" if release[0].isalpha() else "r"
    readable = f"{first}{release.replace('.', '-')}-{name}"
    return f"{readable[: LONGEST_NAME - 1 - len(tag)].rstrip('-')}-{tag}"


def pod_selector(release: str, name: str) -> Mapping[str, str]:
    """Return the labels that a deployment's pods have, and no others."""
    return {"app.kubernetes.io/instance": release, ENDPOINT_LABEL: name}


def server_objects(request: DeploymentRequest, place: Place) -> list[Thing]:
    """List what the request asks for, in the order in which it is applied."""
    things = [] if request.token_hashes is None else [_secret(request, place)]
    things += [_service(request, place), _deployment(request, place)]
    if max(request.replicas, request.most_replicas) > 1:
        # With one server at most a budget would either forbid every eviction or allow them all.
        things.append(_budget(request, place))
    if scales(request):
        things.append(_autoscaler(request, place))
    return things


def scales(request: DeploymentRequest) -> bool:
    """Tell whether the number of servers follows the load."""
    return request.most_replicas > request.replicas


def with_replicas(deployment: Thing, replicas: int) -> Thing:
    """Return the deployment with its number of servers said; an autoscaled one leaves it open."""
    return {**deployment, "spec": {"replicas": replicas, **deployment["spec"]}}


def replicas_alone(deployment: Thing) -> Thing:
    """Return what another manager applies to hold the number of servers as it is now.

    A field that its only owner stops naming goes back to its default: one server, until the
    autoscaler notices.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment["metadata"]["name"]},
        "spec": {"replicas": deployment["spec"]["replicas"]},
    }


def owns_replicas(deployment: Thing) -> bool:
    """Tell whether an applied request, and no autoscaler, says how many servers there are."""
    return any(
        entry.get("manager") == MANAGER
        and entry.get("operation") == "Apply"
        and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in deployment["metadata"].get("managedFields", ())
    )


def tokens_mark(request: DeploymentRequest) -> str | None:
    """Name the tokens that may ask, for the pods' annotation; None where anybody may."""
    if request.token_hashes is None:
        return None
    return hashlib.sha256(_token_lines(request).encode()).hexdigest()[:16]


def _secret(request: DeploymentRequest, place: Place) -> Thing:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(request, place),
        "type": "Opaque",
        "data": {TOKEN_FILE: b64encode(_token_lines(request).encode()).decode()},
    }


def _token_lines(request: DeploymentRequest) -> str:
    return "".join(f"{entry}\n" for entry in request.token_hashes or ())


def _service(request: DeploymentRequest, place: Place) -> Thing:
    port = place.rules.inference.port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(request, place),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(pod_selector(place.rules.release, request.name)),
            "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _deployment(request: DeploymentRequest, place: Place) -> Thing:
    template = _template(request, place)
    mark = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]
    template["metadata"]["labels"][TEMPLATE] = mark
    metadata = _metadata(request, place)
    metadata["labels"][TEMPLATE] = mark
    metadata["annotations"][BUNDLE] = request.digest
    metadata["annotations"][REPLICAS] = str(request.replicas)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": dict(pod_selector(place.rules.release, request.name))},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": template,
        },
    }
    return deployment if scales(request) else with_replicas(deployment, request.replicas)


def _template(request: DeploymentRequest, place: Place) -> Thing:
    rules = place.rules
    return {
        "metadata": {
            "labels": _labels(request, place),
            "annotations": {
                **rules.inference.annotations,
                **_told(request),
                BUNDLE: request.digest,
                "kubectl.kubernetes.io/default-container": CONTAINER,
            },
        },
        "spec": {
            **pod_spec(rules, rules.inference),
            "imagePullSecrets": [{"name": name} for name in rules.pull_secrets],
            "topologySpreadConstraints": _spread(request, place),
            "containers": [_container(request, place)],
            "volumes": _volumes(request, place),
        },
    }


def _spread(request: DeploymentRequest, place: Place) -> list[Thing]:
    anywhere: tuple[Thing, ...] = (
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        },
    )
    selector = {"matchLabels": dict(pod_selector(place.rules.release, request.name))}
    return [
        {"labelSelector": selector, "matchLabelKeys": [TEMPLATE], **constraint}
        for constraint in place.rules.inference.topology_spread or anywhere
    ]


def _container(request: DeploymentRequest, place: Place) -> Thing:
    rules, pods = place.rules, place.rules.inference
    # As request and as limit: the kubelet then sees no reason to end it before others.
    size = {
        "cpu": _cores(request.cpu or pods.cpu),
        "memory": request.memory or pods.memory,
    }
    return {
        "name": CONTAINER,
        "image": pods.image,
        "imagePullPolicy": rules.pull_policy,
        "command": [*place.command, "--host", "0.0.0.0", "--port", str(pods.port)],
        "env": _environment(request, place),
        "envFrom": [{"secretRef": {"name": name}} for name in pods.secrets],
        "ports": [{"name": "http", "containerPort": pods.port, "protocol": "TCP"}],
        "resources": {"requests": dict(size), "limits": dict(size)},
        "securityContext": CONTAINER_SECURITY,
        # The port is bound only after the bundle's golden check.
        "startupProbe": _probe("/readyz", period=1, failures=300),
        "readinessProbe": _probe("/readyz", period=5, failures=3),
        # A minute without an answer: a server that is merely busy answers within that.
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        # The end of the log stands in the pod's status, where the reason is read.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(request, place),
    }


def _environment(request: DeploymentRequest, place: Place) -> list[Thing]:
    # By then every node has heard of the end, and every idle connection was closed: no request
    # comes after it. Half of the grace at most, so that those in flight are answered.
    linger = min(KEEPS_ALIVE + TELLING, place.rules.grace / 2)
    values = {
        **own_variables(place.rules.inference),
        LINGER: f"{linger.total_seconds():g}",
        **place.rules.inference.environment,
        **request.environment,
    }
    if request.token_hashes is not None:
        values[ENDPOINT_TOKENS] = f"{TOKEN_FOLDER}/{TOKEN_FILE}"
    named: list[Thing] = [{"name": name, "value": values[name]} for name in sorted(values)]
    if THREADS not in values:
        limit = {"resource": "limits.cpu", "divisor": "1"}
        # Rounded up by the kubelet, to whole cores.
        named.append({"name": THREADS, "valueFrom": {"resourceFieldRef": limit}})
    return named


def _volumes(request: DeploymentRequest, place: Place) -> list[Thing]:
    volumes = own_volumes(place.rules.inference)
    if request.token_hashes is not None:
        name = object_name(place.rules.release, request.name)
        secret = {"secretName": name, "defaultMode": 0o440}
        volumes.append({"name": "tokens", "secret": secret})
    return volumes


def _mounts(request: DeploymentRequest, place: Place) -> list[Thing]:
    mounts = own_mounts(place.rules.inference)
    if request.token_hashes is not None:
        # The folder and not the file: a file that is mounted alone never changes.
        mounts.append({"name": "tokens", "mountPath": TOKEN_FOLDER, "readOnly": True})
    return mounts


def _probe(path: str, *, period: int, failures: int) -> Thing:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _budget(request: DeploymentRequest, place: Place) -> Thing:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(request, place),
        "spec": {
            # Not `minAvailable`: however many there are, one may go, so that nodes can be drained.
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(pod_selector(place.rules.release, request.name))},
        },
    }


def _autoscaler(request: DeploymentRequest, place: Place) -> Thing:
    pods = place.rules.inference
    target = {"type": "Utilization", "averageUtilization": pods.target_cpu}
    window = int(pods.scale_in_after.total_seconds())
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(request, place),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": object_name(place.rules.release, request.name),
            },
            "minReplicas": request.replicas,
            "maxReplicas": request.most_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": window}},
        },
    }


def _metadata(request: DeploymentRequest, place: Place) -> Thing:
    return {
        "name": object_name(place.rules.release, request.name),
        "namespace": place.rules.namespace,
        "labels": {**_labels(request, place), OWNER: place.owner},
        "annotations": _told(request),
        "ownerReferences": (
            [] if place.rules.endpoints_outlive else owner_references(place.rules, place.owner)
        ),
    }


def _labels(request: DeploymentRequest, place: Place) -> Thing:
    return {
        **made_labels(place.rules),
        "app.kubernetes.io/component": "inference",
        ENDPOINT_LABEL: request.name,
    }


def _told(request: DeploymentRequest) -> Thing:
    told = {TITLE: request.title, PROJECT: request.project}
    return {name: text for name, text in told.items() if text}


def _cores(count: float) -> str:
    return f"{round(count * 1000)}m" if count % 1 else str(int(count))
