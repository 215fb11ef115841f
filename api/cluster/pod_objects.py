"""What everything that the worker makes on Kubernetes has in common; pure."""

from collections.abc import Mapping
from typing import Any, Final

from api.cluster.kubernetes_rules import KubernetesRules, PodRules

Thing = dict[str, Any]
"""A Kubernetes object, or a part of one."""

JOB_LABEL: Final = "bearloop.io/job"
ENDPOINT_LABEL: Final = "bearloop.io/endpoint"
TITLE: Final = "bearloop.io/title"
PROJECT: Final = "bearloop.io/project"
SCRATCH: Final = "/scratch"
"""The one folder that a pod may write to."""
AT_HOME: Final[Mapping[str, str]] = {"HOME": SCRATCH, "TMPDIR": SCRATCH}
"""Variables of every pod."""
CA_FOLDER: Final = "/etc/bearloop-ca"
CA_FILE: Final = f"{CA_FOLDER}/ca.crt"
CA_VARIABLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""By which boto3, requests (MLflow's client) and OpenSSL (all others) find whom to trust."""
USER: Final = 10001
"""Of every image, and the group too."""

POD_SECURITY: Final[Thing] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Thing] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""With the pod's, all that a namespace of Pod Security `restricted` wants."""


def made_labels(rules: KubernetesRules) -> dict[str, str]:
    """Return the labels of everything that the worker makes for this release."""
    return {
        "app.kubernetes.io/name": "bearloop",
        "app.kubernetes.io/instance": rules.release,
        "app.kubernetes.io/managed-by": "bearloop-worker",
    }


def selector(labels: Mapping[str, str]) -> str:
    """Return labels as a selector that takes just these."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def owner_references(rules: KubernetesRules, owner_uid: str) -> list[Thing]:
    """Return the reference to the release's ConfigMap, with which everything goes."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": rules.owner, "uid": owner_uid}
    return [{**owner, "blockOwnerDeletion": False}]


def pod_spec(rules: KubernetesRules, pods: PodRules) -> Thing:
    """Return what the specs of all pods have in common: no rights, restricted, placed as asked."""
    placed = {
        "nodeSelector": pods.node_selector,
        "tolerations": list(pods.tolerations),
        "affinity": pods.affinity,
        "priorityClassName": pods.priority_class,
        "runtimeClassName": pods.runtime_class,
    }
    return {
        "serviceAccountName": rules.service_account,
        "automountServiceAccountToken": False,
        # Else a Service of the namespace named `bearloop` would set BEARLOOP_PORT.
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": int(rules.grace.total_seconds()),
        **{name: value for name, value in placed.items() if value},
    }


def own_variables(pods: PodRules) -> dict[str, str]:
    """Return the variables that tell a pod where it may write, and whom to trust."""
    return {**AT_HOME, **(dict.fromkeys(CA_VARIABLES, CA_FILE) if pods.ca_bundle else {})}


def own_volumes(pods: PodRules) -> list[Thing]:
    """Return the volumes of the one folder to write to, of shared memory and of whom to trust."""
    volumes: list[Thing] = [{"name": "scratch", "emptyDir": {"sizeLimit": pods.scratch}}]
    if pods.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": pods.shared_memory}
        volumes.append({"name": "shared-memory", "emptyDir": memory})
    if pods.ca_bundle:
        volumes.append({"name": "ca-bundle", "configMap": {"name": pods.ca_bundle}})
    return volumes


def own_mounts(pods: PodRules) -> list[Thing]:
    """Return where a container finds `own_volumes`."""
    mounts: list[Thing] = [{"name": "scratch", "mountPath": SCRATCH}]
    if pods.shared_memory:
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    if pods.ca_bundle:
        mounts.append({"name": "ca-bundle", "mountPath": CA_FOLDER, "readOnly": True})
    return mounts
