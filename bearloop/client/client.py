"""The API's nouns as methods: one `Client` is one project."""

import httpx

from bearloop.client.connection import Connection, place
from bearloop.client.endpoints import Endpoints
from bearloop.client.images import Datasets
from bearloop.client.recipes import Recipes
from bearloop.client.reviews import Reviews
from bearloop.client.runs import Runs


class Client:
    """Everything a member of a project may ask for."""

    def __init__(
        self, url: str, token: str, *, project: str, http: httpx.Client | None = None
    ) -> None:
        self.connection = Connection(url, token, http=http)
        self.project = project
        below = place("/v1/projects", project)
        self.datasets = Datasets(self.connection, below)
        self.recipes = Recipes(self.connection, below)
        self.runs = Runs(self.connection, below)
        self.reviews = Reviews(self.connection, below)
        self.endpoints = Endpoints(self.connection, below)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
