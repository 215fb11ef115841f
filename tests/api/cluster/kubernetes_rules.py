"""What an operator says of pods, for tests that ask for the objects of a release."""

from datetime import timedelta
from typing import Any

from api.cluster.kubernetes_rules import KubernetesRules, PodRules, ServerRules


def rules(**changes: Any) -> KubernetesRules:
    """Return the rules of release `forest`, with some of the servers' changed."""
    store = {"AWS_ENDPOINT_URL": "http://minio:9000"}
    job = PodRules(image="registry/job:1", secrets=("jobs-s3",), cpu=1, memory="2Gi")
    servers: dict[str, Any] = {
        "image": "registry/bearloop-inference:1",
        "secrets": ("inference-s3",),
        "environment": store,
        "cpu": 1,
        "memory": "1Gi",
    }
    return KubernetesRules(
        namespace="woods",
        release="forest",
        owner="forest-owner",
        service_account="forest-jobs",
        pull_secrets=("registry-login",),
        grace=timedelta(seconds=60),
        importer=job,
        trainer=job,
        inference=ServerRules.model_validate({**servers, **changes}),
    )
