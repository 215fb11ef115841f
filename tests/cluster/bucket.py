"""A MinIO on this machine, which pods reach at the node's own address."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.rig import run, until
from tests.fixtures.ports import free_port

BUCKET = "bearloop"


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket and its owner's keys."""

    url: str
    """Of the server, as pods and this machine reach it."""
    keys: dict[str, str]

    def upload(self, folder: Path, prefix: str) -> None:
        """Put every file of the folder below the prefix."""
        client = self._client()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        client.close()

    def make(self) -> bool:
        """Make the bucket; False while the server does not answer."""
        client = self._client()
        with suppress(BotoCoreError, ClientError):
            client.create_bucket(Bucket=BUCKET)
            return True
        return False

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )


@contextmanager
def running_bucket(folder: Path, keys: dict[str, str]) -> Iterator[Bucket]:
    """Run the server on the node's address; skips where no `minio` is on the PATH."""
    minio = shutil.which("minio")
    if minio is None:
        pytest.skip("no `minio` on the PATH: it stands in for the S3 of a cluster")
    bucket = Bucket(f"http://{_address()}:{free_port()}", keys)
    names = (
        ("AWS_ACCESS_KEY_ID", "MINIO_ROOT_USER"),
        ("AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_PASSWORD"),
    )
    root = {new: keys[old] for old, new in names}
    server = subprocess.Popen(
        [minio, "server", str(folder), "--address", bucket.url.removeprefix("http://")],
        env={**os.environ, **root},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(bucket.make, "MinIO answers", limit=60)
        yield bucket
    finally:
        server.terminate()
        server.wait()


def _address() -> str:
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
    addresses = {entry["type"]: entry["address"] for entry in nodes[0]["status"]["addresses"]}
    found: str = addresses["InternalIP"]
    return found
