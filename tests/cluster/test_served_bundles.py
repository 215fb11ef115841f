"""The inference image on a real Kubernetes: bundles out of S3, asked while they are replaced."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_servers import COMMAND, KubernetesServers
from api.cluster.protocol import DeploymentRequest
from bearloop.contract.environment import BUNDLE, STORE_URL
from tests.cluster.bucket import BUCKET, Bucket, running_bucket
from tests.cluster.rig import until
from tests.cluster.serving import (
    KEYS,
    Place,
    await_reason,
    bring_up,
    calling,
    opened_namespace,
)
from tests.inference import bundles

IMAGE = os.environ.get("BEARLOOP_TEST_IMAGE", "localhost/bearloop-inference:0.1.0")
NAMESPACE, PROJECT = "bearloop-served", "projects/1"
TOKEN = "a-token-of-this-endpoint"
HASHES = (hashlib.sha256(TOKEN.encode()).hexdigest(),)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with running_bucket(tmp_path_factory.mktemp("s3"), KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def place(bucket: Bucket) -> Iterator[Place]:
    with opened_namespace(NAMESPACE) as namespace:
        api = KubernetesApi(NAMESPACE, timeout=timedelta(seconds=20))
        yield Place(namespace, api, IMAGE)
        api.close()


@pytest.fixture
def servers(place: Place, bucket: Bucket) -> KubernetesServers:
    store = {"AWS_ENDPOINT_URL": bucket.url, "AWS_DEFAULT_REGION": "us-east-1"}
    return place.servers(COMMAND, environment=store, cpu=0.5, memory="512Mi")


def request(bucket: Bucket, folder: Path, **how: float) -> DeploymentRequest:
    """Make a bundle, bring it to the bucket, and ask for servers of it."""
    prefix = bundles.save(folder, **how)  # type: ignore[arg-type]
    bucket.upload(folder, PROJECT)
    return DeploymentRequest(
        name="bears-1",
        digest=prefix.rstrip("/").rpartition("/")[2],
        environment={STORE_URL: f"s3://{BUCKET}/{PROJECT}", BUNDLE: prefix},
        token_hashes=HASHES,
    )


@pytest.mark.parametrize("kept", [False, True])
def test_bundles_replace_each_other_and_no_request_fails(
    place: Place, servers: KubernetesServers, bucket: Bucket, *, tmp_path: Path, kept: bool
) -> None:
    first = request(bucket, tmp_path, seed=1)
    second = request(bucket, tmp_path, seed=2)
    url = f"{place.outside(bring_up(servers, first))}/classify"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with calling(url, bundles.picture(), kept=kept, headers=headers) as caller:
        bring_up(servers, second)
        bring_up(servers, first)
        heard = caller.stop()
    assert heard.failed == []
    assert set(heard.seen) == {first.digest, second.digest}
    servers.undeploy("bears-1")


def test_a_revoked_token_is_refused_at_once(
    place: Place, servers: KubernetesServers, bucket: Bucket, tmp_path: Path
) -> None:
    asked = request(bucket, tmp_path)
    url = f"{place.outside(bring_up(servers, asked))}/classify"
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def status() -> int:
        transport = httpx.HTTPTransport(retries=3)
        with httpx.Client(transport=transport, timeout=30, trust_env=False) as client:
            return client.post(url, content=bundles.picture(), headers=headers).status_code

    assert status() == 200
    servers.deploy(replace(asked, token_hashes=("0" * 64,)))
    until(lambda: status() == 401, "the token is refused", limit=30)
    servers.undeploy("bears-1")


def test_a_bundle_whose_proof_fails_is_refused_in_the_servers_words(
    servers: KubernetesServers, bucket: Bucket, tmp_path: Path
) -> None:
    servers.deploy(request(bucket, tmp_path, shift=0.2))
    seen = await_reason(servers, "bears-1", lambda seen: seen.refused)
    assert seen.reason is not None
    assert "refused to serve" in seen.reason
    servers.undeploy("bears-1")
