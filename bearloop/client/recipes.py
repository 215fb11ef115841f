"""Recipes: bearloop's and the project's own."""

from collections.abc import Iterator, Mapping
from typing import Any

from bearloop.client.connection import Connection, place
from bearloop.client.views import RecipeView


class Recipes:
    """What a run may follow, by name."""

    def __init__(self, connection: Connection, below: str) -> None:
        self._connection = connection
        self._path = f"{below}/recipes"

    def list(self) -> Iterator[RecipeView]:
        """Walk bearloop's recipes, then the project's own by name."""
        return map(RecipeView.model_validate, self._connection.items(self._path))

    def get(self, name: str) -> RecipeView:
        """Return one recipe, complete."""
        return RecipeView.model_validate(self._connection.get(place(self._path, name)))

    def add(self, recipe: Mapping[str, Any]) -> RecipeView:
        """Store a recipe of the project's own; its name stands for these steps for ever."""
        return RecipeView.model_validate(self._connection.post(self._path, dict(recipe)))
