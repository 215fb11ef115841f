"""What everything that the worker makes on Kubernetes has in common; pure."""

from collections.abc import Mapping
from typing import Any, Final

from api.cluster.kubernetes_rules import KubernetesRules

Thing = dict[str, Any]
"""A Kubernetes object, or a part of one."""

JOB_LABEL: Final = "bearloop.io/job"
ENDPOINT_LABEL: Final = "bearloop.io/endpoint"
TITLE: Final = "bearloop.io/title"
PROJECT: Final = "bearloop.io/project"
SCRATCH: Final = "/scratch"
"""The one folder that a pod may write to."""
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


def owner_references(rules: KubernetesRules, owner_uid: str | None) -> list[Thing]:
    """Return the reference to the release's ConfigMap, with which everything goes."""
    if owner_uid is None:
        return []
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": rules.owner, "uid": owner_uid}
    return [{**owner, "blockOwnerDeletion": False}]
