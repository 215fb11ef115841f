"""The SDK: a thin, typed client of the REST API, which the CLI itself uses."""

from bearloop.client.client import Client
from bearloop.client.connection import ApiProblem, Connection, UnreachableError
from bearloop.client.waiting import JobFailedError

__all__ = ["ApiProblem", "Client", "Connection", "JobFailedError", "UnreachableError"]
