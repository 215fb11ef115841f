"""Fixtures of the trainer's tests: a real MLflow server, and a real S3 server."""

from tests.fixtures.mlflow_server import mlflow_address, mlflow_server  # noqa: F401
from tests.fixtures.s3_server import s3_server, s3_url  # noqa: F401
