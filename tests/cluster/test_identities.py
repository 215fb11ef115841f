"""The three S3 identities on a real MinIO: each does its program's work, and nothing else."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import boto3
import pytest

from bearloop.contract.jobs import attempt_prefix, checkpoint_prefix, result_key, spec_key
from bearloop.store import (
    MissingBucketError,
    MissingObjectError,
    RefusedKeysError,
    Store,
    image_key,
    open_store,
    thumbnail_key,
)
from tests.fixtures.ports import free_port

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "charts" / "bearloop" / "files"
PASSWORD = "a-password-of-tests"
STARTS_WITHIN = 60.0
SHA, JOB = "ab" * 32, "5f0c7a1e-3f43-4e0c-9a55-0f6f2d1f8a01"
IMAGE = image_key(SHA)
CHECKPOINT = checkpoint_prefix(JOB) + "000000001.safetensors"
RESULT = result_key(JOB)
BUNDLE = f"bundles/{SHA}/"

_numbers = count(1)

Opens = Callable[[str], Store]


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MinIO of this module's own."""
    program = shutil.which("minio")
    if program is None:
        pytest.skip("no `minio` on PATH")
    pytest.importorskip("minio", reason="users and policies are made by the package `minio`")
    address = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("minio")
    environment = {**os.environ, "MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": PASSWORD}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "server", "--quiet", "--address", address, str(folder / "data")],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        await_server(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(30)


class Bucket(NamedTuple):
    """A bucket, the prefix below which bearloop lives in it, and a user for each identity."""

    name: str
    prefix: str
    users: Mapping[str, str]


@pytest.fixture(scope="module", params=["", "team/bears/"], ids=["whole-bucket", "below-a-prefix"])
def bucket(request: pytest.FixtureRequest, minio: str) -> Bucket:
    """A fresh bucket with its three users."""
    name = f"bears-{uuid4().hex[:8]}"
    root = boto3.Session("root", PASSWORD, region_name="us-east-1")
    root.client("s3", endpoint_url=f"http://{minio}").create_bucket(Bucket=name)
    return Bucket(name, request.param, make_users(minio, name, request.param))


@pytest.fixture
def opens(minio: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Opens:
    """Open the store as one of the identities: as its program sees a new project."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{minio}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    project = f"projects/{next(_numbers)}"

    def as_identity(name: str) -> Store:
        be(monkeypatch, bucket.users[name], PASSWORD)
        return open_store(f"s3://{bucket.name}/{bucket.prefix}").under(project)

    return as_identity


def be(monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    """Give this process the keys that boto3 takes next."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", password)
    # boto3 keeps the keys that it found first.
    boto3.setup_default_session()


def make_users(address: str, bucket: str, prefix: str) -> dict[str, str]:
    """Make one user for each policy file; returns their names."""
    from minio import MinioAdmin
    from minio.credentials import StaticProvider

    admin = MinioAdmin(endpoint=address, credentials=StaticProvider("root", PASSWORD), secure=False)
    users = {}
    for identity in ("api", "jobs", "inference"):
        name = users[identity] = f"{identity}-{bucket}"
        admin.user_add(name, PASSWORD)
        admin.policy_add(name, policy=policy_of(identity, bucket, prefix))
        admin.attach_policy([name], user=name)
    return users


def policy_of(identity: str, bucket: str, prefix: str) -> dict[str, Any]:
    """Fill in a policy file."""
    text = (POLICIES / f"s3-{identity}.json").read_text()
    filled: dict[str, Any] = json.loads(text.replace("BUCKET", bucket).replace("PREFIX", prefix))
    return filled


def await_server(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until MinIO answers."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        assert server.poll() is None, "MinIO died while it started"
        try:
            urlopen(f"http://{address}/minio/health/live", timeout=2).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no MinIO at {address} within {STARTS_WITHIN} s")


def test_a_whole_life_passes_with_each_program_s_own_keys(opens: Opens, tmp_path: Path) -> None:
    zipped = tmp_path / "bears.zip"
    zipped.write_bytes(b"zip" * 4_000_000)  # in several parts
    api = opens("api")
    api.upload(f"uploads/{SHA}", zipped)
    api.put(spec_key(JOB), b"{}")
    importer = opens("jobs")
    importer.download(f"uploads/{SHA}", tmp_path / "copy.zip")
    assert importer.get(spec_key(JOB)) == b"{}"
    assert not importer.exists(IMAGE)
    for key in (thumbnail_key(SHA), IMAGE, attempt_prefix(JOB, "a") + "progress.json"):
        importer.put(key, b"bytes")
    importer.upload(attempt_prefix(JOB, "a") + "ledger.parquet", zipped)
    assert importer.put_new(RESULT, b"first")
    assert not importer.put_new(RESULT, b"second")
    trainer = opens("jobs")
    assert trainer.get_range(IMAGE, start=1, length=3) == b"yte"
    trainer.put(CHECKPOINT, b"state")
    assert [info.key for info in trainer.list(checkpoint_prefix(JOB))] == [CHECKPOINT]
    trainer.delete(CHECKPOINT)
    trainer.put(BUNDLE + "model.onnx", b"onnx")
    assert opens("inference").get(BUNDLE + "model.onnx") == b"onnx"
    api = opens("api")
    assert {info.key for info in api.list("images/")} == {IMAGE}
    assert api.get(RESULT) == b"first"
    api.delete(f"uploads/{SHA}")
    with pytest.raises(MissingObjectError):
        api.get(f"uploads/{SHA}")


@pytest.mark.parametrize("key", [IMAGE, thumbnail_key(SHA), RESULT, BUNDLE + "model.onnx"])
def test_a_job_deletes_nothing_but_its_checkpoints(opens: Opens, key: str) -> None:
    jobs = opens("jobs")
    jobs.put(key, b"bytes")
    with pytest.raises(RefusedKeysError, match="delete"):
        jobs.delete(key)
    assert jobs.get(key) == b"bytes"


def test_the_server_reads_bundles_and_does_nothing_else(opens: Opens) -> None:
    for key in (IMAGE, RESULT, BUNDLE + "model.onnx"):
        opens("api").put(key, b"bytes")
    server = opens("inference")
    assert server.get(BUNDLE + "model.onnx") == b"bytes"
    for forbidden in (
        lambda: server.get(IMAGE),
        lambda: server.get(RESULT),
        lambda: list(server.list("bundles/")),
        lambda: server.put(BUNDLE + "model.onnx", b"other"),
        lambda: server.delete(BUNDLE + "model.onnx"),
    ):
        with pytest.raises(RefusedKeysError):
            forbidden()


def test_what_lies_outside_the_projects_is_no_job_s(opens: Opens, bucket: Bucket) -> None:
    opens("jobs")
    outside = open_store(f"s3://{bucket.name}/{bucket.prefix}mlflow")
    for forbidden in (
        lambda: outside.get("artifact"),
        lambda: outside.put("artifact", b""),
        lambda: list(outside.list("")),
        lambda: list(open_store(f"s3://{bucket.name}").list("")),
    ):
        with pytest.raises(RefusedKeysError):
            forbidden()


def test_wrong_keys_and_a_missing_bucket_are_told_apart(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = opens("api")
    with pytest.raises(MissingObjectError):
        api.get("probe")
    be(monkeypatch, "root", "not-the-password")
    with pytest.raises(RefusedKeysError):
        open_store(api.url).get("probe")
    be(monkeypatch, "root", PASSWORD)
    with pytest.raises(MissingBucketError):
        open_store("s3://no-such-bucket").get("probe")
