"""Fixtures of the trainer's tests: a real MLflow server."""

from tests.fixtures.mlflow_server import mlflow_address, mlflow_server  # noqa: F401
