"""A launch as Kubernetes objects: dictionaries that read like their YAML; pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from api.cluster.kubernetes_rules import KubernetesRules, PodRules
from api.cluster.pod_objects import (
    CONTAINER_SECURITY,
    JOB_LABEL,
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
from api.cluster.protocol import JobRequest
from api.cluster.quantities import quantity
from bearloop.contract import environment
from bearloop.contract.jobs import ExitCode

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
CONTAINER: Final = "main"
MASTER_PORT: Final = 29500
"""Torch's own default."""


def job_object(
    request: JobRequest,
    rules: KubernetesRules,
    *,
    owner_uid: str,
    programs: Mapping[str, Sequence[str]],
) -> Thing:
    """Return the Job of one launch; `programs` names the command of each program.

    It has no time to live: the worker deletes it once its result is in the tables.
    """
    pods = max(request.nodes, request.shards)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(request, rules, owner_uid=owner_uid),
        "spec": {
            "completions": pods,
            "parallelism": pods,
            "completionMode": "Indexed" if pods > 1 else "NonIndexed",
            # Crashes are counted, and limited, by the worker: it launches anew.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(request)},
            "template": {
                "metadata": {
                    "labels": job_labels(request, rules),
                    "annotations": {
                        # Moving the pod of a healthy run costs it the way since its checkpoint.
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        **_annotations(request),
                        **_pod_rules(request, rules).annotations,
                    },
                },
                "spec": _pod(request, rules, command=programs[request.program]),
            },
        },
    }


def service_object(request: JobRequest, rules: KubernetesRules, *, owner_uid: str) -> Thing:
    """Return the headless Service by which the pods of one run find each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(request, rules, owner_uid=owner_uid),
        "spec": {
            "clusterIP": "None",
            # They meet before any of them is ready, or none ever is.
            "publishNotReadyAddresses": True,
            "selector": {JOB_LABEL: request.name},
            "ports": [{"name": "torch", "port": MASTER_PORT}],
        },
    }


def job_labels(request: JobRequest, rules: KubernetesRules) -> dict[str, str]:
    """Return the labels of a job's objects."""
    return {
        **made_labels(rules),
        "app.kubernetes.io/component": request.program,
        JOB_LABEL: request.name,
    }


def why_invalid(request: JobRequest, said: str) -> str:
    """Say whose it is to mend what the API server refuses, in words that name the field."""
    operators = f"what the operator set for the pods of the {request.program} (its chart's values)"
    asked = any((request.cpu, request.memory, request.gpus))
    if asked and "resources" in said:
        return f"{said}; ask for other `cpu`, `memory` or `gpus`, or have {operators} corrected"
    return f"{said}; nothing is wrong with what was asked for: have {operators} corrected"


def _metadata(request: JobRequest, rules: KubernetesRules, *, owner_uid: str) -> Thing:
    queue = {QUEUE_LABEL: request.queue} if request.queue else {}
    return {
        "name": request.name,
        "namespace": rules.namespace,
        "labels": {**job_labels(request, rules), **queue},
        "annotations": _annotations(request),
        "ownerReferences": owner_references(rules, owner_uid),
    }


def _annotations(request: JobRequest) -> dict[str, str]:
    return {TITLE: request.title or request.name, PROJECT: request.project}


def _failure_rules(request: JobRequest) -> list[Thing]:
    """Say what a lost pod means; any failure that no rule names ends the Job as a crash.

    The pods of one run on several nodes begin together, or not at all: whoever of them is lost, the
    Job fails, and the worker launches the next. The rule that failed it is in its condition.
    """
    replaced = "FailJob" if request.nodes > 1 else "Ignore"
    return [
        {"action": "FailJob", "onExitCodes": _code(ExitCode.input_at_fault)},
        {
            "action": replaced,
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {"action": replaced, "onExitCodes": _code(ExitCode.interrupted)},
    ]


def _code(code: ExitCode) -> Thing:
    return {"containerName": CONTAINER, "operator": "In", "values": [int(code)]}


def _pod(request: JobRequest, rules: KubernetesRules, *, command: Sequence[str]) -> Thing:
    pod_rules = _pod_rules(request, rules)
    deadline = request.deadline
    own = {
        # The pod's, which runs from when it has a node: a Job's counts the wait for one, too.
        "activeDeadlineSeconds": int(deadline.total_seconds()) if deadline else None,
        "subdomain": request.name if request.nodes > 1 else None,
        "imagePullSecrets": [{"name": secret} for secret in rules.pull_secrets],
    }
    return {
        "restartPolicy": "Never",
        **pod_spec(rules, pod_rules),
        **{name: value for name, value in own.items() if value},
        "containers": [_container(request, rules, command=command)],
        "volumes": own_volumes(pod_rules),
    }


def _container(request: JobRequest, rules: KubernetesRules, *, command: Sequence[str]) -> Thing:
    pod_rules = _pod_rules(request, rules)
    return {
        "name": CONTAINER,
        "image": pod_rules.image,
        "imagePullPolicy": rules.pull_policy,
        "command": list(command),
        "envFrom": [{"secretRef": {"name": secret}} for secret in pod_rules.secrets],
        "env": _environment(request, pod_rules),
        "resources": _resources(request, rules),
        "securityContext": CONTAINER_SECURITY,
        # The end of the log tells why it died, where the log itself is gone.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": own_mounts(pod_rules),
    }


def _environment(request: JobRequest, pod_rules: PodRules) -> list[Thing]:
    limit = {environment.SCRATCH_LIMIT: f"{quantity(pod_rules.scratch):.0f}"}
    told = {**own_variables(pod_rules), **limit, **pod_rules.environment, **request.environment}
    if request.nodes > 1:
        told[environment.MASTER] = f"{request.name}-0.{request.name}"
    if request.shards > 1:
        told[environment.SHARDS] = str(request.shards)
    uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
    return [
        *({"name": name, "value": value} for name, value in told.items()),
        {"name": environment.ATTEMPT, "valueFrom": uid},
    ]


def _resources(request: JobRequest, rules: KubernetesRules) -> Thing:
    """Ask for cores without a limit: what a node has to spare would only lie idle."""
    pod_rules = _pod_rules(request, rules)
    memory = request.memory or pod_rules.memory
    gpus = {rules.gpu_resource: str(request.gpus)} if request.gpus else {}
    return {
        "requests": {"cpu": f"{request.cpu or pod_rules.cpu:g}", "memory": memory, **gpus},
        "limits": {"memory": memory, **gpus},
    }


def _pod_rules(request: JobRequest, rules: KubernetesRules) -> PodRules:
    return rules.importer if request.program == "importer" else rules.trainer
