"""The chart's own programs, on a real MinIO and a real PostgreSQL."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from bearloop.embedded_postgres import EmbeddedPostgres
from bearloop.store import S3Store, StoreError, image_key
from tests.chart.chart import CHART
from tests.fixtures.ports import free_port

FILES = CHART / "files"
MINIO = shutil.which("minio")
BUCKET = "pictures"
START = 60.0
"""Seconds that MinIO may take to its first answer."""
IDENTITIES = ("root", "api", "jobs", "inference")


@dataclass(frozen=True)
class ObjectServer:
    """MinIO with the chart's identities."""

    address: str
    secrets: Path

    def prepare(self) -> None:
        run("make_identities.py", self.address, BUCKET, str(self.secrets))

    def store(self, identity: str, *, prefix: str = "projects/1") -> S3Store:
        """Open a part of the bucket, the project's unless said, as this identity."""
        import boto3
        from botocore.config import Config

        key, secret = (
            (self.secrets / identity / name).read_text()
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{self.address}",
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}),
        )
        return S3Store(bucket=BUCKET, prefix=prefix, client=client)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    opened = object_server(tmp_path_factory.mktemp("minio"))
    with running(opened):
        opened.prepare()
        yield opened


def test_the_identities_should_be_made_once_the_server_answers(tmp_path: Path) -> None:
    late = object_server(tmp_path)
    words = (str(FILES / "make_identities.py"), late.address, BUCKET, str(late.secrets))
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == f"waiting: MinIO does not answer at {late.address}\n"
        with running(late):
            assert program.wait(START) == 0
            late.store("jobs").put("jobs/1/spec.json", b"{}")


def test_the_api_should_read_write_and_delete(objects: ObjectServer) -> None:
    store = objects.store("api")
    store.put(image_key("a" * 64), b"picture")

    assert store.get(image_key("a" * 64)) == b"picture"
    assert [info.key for info in store.list("images/")] == [image_key("a" * 64)]
    store.delete(image_key("a" * 64))
    assert not store.exists(image_key("a" * 64))


def test_jobs_should_write_images_and_never_delete_one(objects: ObjectServer) -> None:
    store = objects.store("jobs")
    store.put(image_key("b" * 64), b"picture")
    store.put("jobs/1/checkpoints/2", b"weights")

    assert store.get(image_key("b" * 64)) == b"picture"
    assert store.put_new("jobs/1/result.json", b"{}")
    store.delete("jobs/1/checkpoints/2")
    with pytest.raises(StoreError, match="AccessDenied"):
        store.delete(image_key("b" * 64))


def test_jobs_should_read_the_weights_that_the_operator_put_there(objects: ObjectServer) -> None:
    objects.store("api", prefix="weights").put("resnet34.pth", b"weights")
    store = objects.store("jobs", prefix="weights")

    assert store.get("resnet34.pth") == b"weights"
    with pytest.raises(StoreError, match="AccessDenied"):
        store.put("resnet34.pth", b"others")


def test_endpoints_should_read_bundles_and_nothing_else(objects: ObjectServer) -> None:
    objects.store("jobs").put("bundles/1/model.onnx", b"weights")
    objects.store("jobs").put(image_key("c" * 64), b"picture")
    store = objects.store("inference")

    assert store.get("bundles/1/model.onnx") == b"weights"
    with pytest.raises(StoreError, match="AccessDenied"):
        store.get(image_key("c" * 64))
    with pytest.raises(StoreError, match="AccessDenied"):
        store.put("bundles/1/model.onnx", b"others")
    with pytest.raises(StoreError, match="AccessDenied"):
        list(store.list("images/"))


def test_identities_should_be_made_again_without_harm(objects: ObjectServer) -> None:
    (objects.secrets / "jobs/AWS_SECRET_ACCESS_KEY").write_text("another-secret")
    objects.prepare()

    objects.store("jobs").put("jobs/2/spec.json", b"{}")


def test_databases_should_belong_to_roles_that_are_no_superusers(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    admin = plain(postgres.url("postgres", role="postgres"))
    for owner_password in ("one", "two"):
        make_databases(tmp_path, admin, owner_password)

    with psycopg.connect(admin) as connection:
        rows = connection.execute(
            "select rolname, rolsuper, rolcreatedb from pg_roles where rolname = any(%s)",
            [["bearloop_owner", "worker_role", "mlflow"]],
        ).fetchall()
        assert {row[0] for row in rows} == {"bearloop_owner", "worker_role", "mlflow"}
        assert not any(row[1] or row[2] for row in rows)
        may = "select has_database_privilege(%s, 'bearloop', %s)"
        for right in ("connect", "temporary"):
            assert connection.execute(may, ["worker_role", right]).fetchone() == (True,)
            assert connection.execute(may, ["mlflow", right]).fetchone() == (False,)
    mlflow = tmp_path / "mlflow-url"
    mlflow.write_text(postgres.url("mlflow", role="mlflow"))
    run("wait_for_database.py", str(mlflow))
    for database in ("bearloop", "mlflow"):
        postgres.drop_database(database)


def make_databases(folder: Path, admin_url: str, owner_password: str) -> None:
    passwords = {"owner": owner_password, "program": "p", "mlflow": "m"}
    (folder / "admin-url").write_text(admin_url)
    for whose, password in passwords.items():
        (folder / f"{whose}-password").write_text(password)
    run("make_databases.py", str(folder), "worker_role")


def object_server(folder: Path) -> ObjectServer:
    """Name a server that does not run yet, and the keys of its identities."""
    if MINIO is None:
        pytest.skip("there is no `minio` in PATH")
    for identity in IDENTITIES:
        (folder / "secrets" / identity).mkdir(parents=True)
        (folder / "secrets" / identity / "AWS_ACCESS_KEY_ID").write_text(f"bearloop-{identity}")
        (folder / "secrets" / identity / "AWS_SECRET_ACCESS_KEY").write_text(f"secret-{identity}")
    return ObjectServer(f"127.0.0.1:{free_port()}", folder / "secrets")


@contextmanager
def running(objects: ObjectServer) -> Iterator[None]:
    """Let the server run."""
    assert MINIO is not None
    root = {"MINIO_ROOT_USER": "bearloop-root", "MINIO_ROOT_PASSWORD": "secret-root"}
    folder = objects.secrets.with_name("data")
    server = subprocess.Popen(
        [MINIO, "server", str(folder), "--address", objects.address, "--quiet"],
        env={**os.environ, **root, "MINIO_BROWSER": "off"},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def run(program: str, *words: str, **variables: str) -> None:
    """Run a program of the chart as its Job does."""
    done = subprocess.run(
        [sys.executable, str(FILES / program), *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=START,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
