"""`bearloop recipes`: shown, changed, added, refused with all that is wrong."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.bearloop.cli.conftest import Cli
from tests.bearloop.serving import served


@pytest.fixture
def zoo(cli: Cli, app: FastAPI, callers: Callable[[str], TestClient]) -> Iterator[Cli]:
    token = callers("trainer").headers["authorization"].removeprefix("Bearer ")
    with served(app) as url:
        cli("login", url, "--token", token, "--project", "zoo")
        yield cli


def test_a_recipe_is_shown_changed_and_added(zoo: Cli, tmp_path: Path) -> None:
    recipe = zoo("recipes", "show", "warm-restarts").json
    recipe |= {"name": "one-cycle-more", "dropout": 0.3}
    recipe["stages"][2] |= {"epochs": 15}
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe))
    assert zoo("recipes", "add", file, "--json").json["own"]
    listed = {one["name"]: one for one in zoo("recipes", "list", "--json").json}
    assert listed["one-cycle-more"]["recipe"]["stages"][2]["epochs"] == 15
    assert zoo("recipes", "show", "one-cycle-more").json == recipe


def test_all_that_is_wrong_is_told_at_once(zoo: Cli, tmp_path: Path) -> None:
    recipe = zoo("recipes", "show", "fine-tune").json
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({**recipe, "name": "mine", "batch_size": 0, "dropout": 2}))
    said = zoo("recipes", "add", file, code=1)
    assert "body.batch_size" in said.err
    assert "give 2 or more" in said.err
    assert "body.dropout" in said.err
    assert "Wrong fields: 2." in said.error
    for content in ("[]", "{", ""):
        file.write_text(content)
        assert "JSON" in zoo("recipes", "add", file, code=2).err
    assert "recipe.json" in zoo("recipes", "add", tmp_path / "no" / "recipe.json", code=2).err
