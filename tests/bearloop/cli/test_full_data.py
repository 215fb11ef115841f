"""`bearloop train --train-on all`, and what is said of such a run."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.database import Database
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import ON_ALL, add_run, bears, train
from tests.bearloop.cli.conftest import Cli
from tests.bearloop.serving import served


@pytest.fixture
def zoo(
    cli: Cli,
    app: FastAPI,
    callers: Callable[[str], TestClient],
    database: Database,
    store: FolderStore,
    project: Project,
) -> Iterator[Cli]:
    """Run 1 keeps its splits, run 2 is the same on all images."""
    add_run(database, store, train(database, store, project, bears(12)), recipe=ON_ALL)
    token = callers("admin").headers["authorization"].removeprefix("Bearer ")
    with served(app) as url:
        cli("login", url, "--token", token, "--project", "zoo")
        yield cli


def test_a_field_without_an_option_is_set(zoo: Cli) -> None:
    zoo("freeze", "bears")
    asked = ("train", "bears", "--weights", "none", "--no-wait", "--json")
    given = ("dropout=.25", "weight_decay=.05", "checkpoint_every=PT10M")
    fields = [word for field in given for word in ("--set", field)]
    (run,) = zoo(*asked, "--train-on", "all", *fields).json
    told = zoo("runs", run["number"], "--spec").json
    assert (told["recipe"]["dropout"], told["checkpoint_every"]) == (0.25, "PT10M")
    fits = [stage for stage in told["recipe"]["stages"] if stage["kind"] == "fit"]
    assert [stage["weight_decay"] for stage in fits] == [0.05, 0.05]


def test_any_recipe_is_trained_on_all_images(zoo: Cli) -> None:
    zoo("freeze", "bears")
    asked = ("train", "bears", "--weights", "none", "--no-wait", "--json")
    (run,) = zoo(*asked, "--train-on", "all").json
    assert (run["recipe"], run["train_on"], run["twin"]) == ("fine-tune", "all", None)
    (named,) = zoo(*asked, "--recipe", "full-data").json
    assert (named["recipe"], named["train_on"]) == ("full-data", "all")
    (kept,) = zoo(*asked, "--recipe", "full-data", "--train-on", "train").json
    assert (kept["recipe"], kept["train_on"]) == ("full-data", "train")
    assert "train_on" in zoo(*asked, "--train-on", "most", code=1).error


def test_its_report_has_words_instead_of_figures(zoo: Cli) -> None:
    said = zoo("report", 2)
    assert "run 2 was trained on all images" in said.err
    assert "its twin, run 1, tells how good it is: bearloop report 1" in said.err
    assert "top losses" in said.out
    for absent in ("most confused", "95 % interval", "spread"):
        assert absent not in said.out
    assert "too_few_epochs" not in said.err
    kept = zoo("report", 1)
    assert "most confused" in kept.out
    assert "trained on all images" not in kept.err
    report = zoo("report", 2, "--json").json
    assert (report["train_on"], report["twin"], report["splits"]) == ("all", 1, {})


def test_compared_or_promoted_it_names_the_way_out(zoo: Cli) -> None:
    assert "look at its twin, run 1" in zoo("compare", 1, 2, code=1).error
