"""Which run speaks for one that was trained on all images."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.database import Database
from api.runs.named_recipes import FINE_TUNE, FULL_DATA
from api.runs.recipes import Changes, changed
from api.runs.twins import Candidate, FullRun, choose_twin, way_to_twin
from api.tables import Job, JobState, Report, Run
from bearloop.contract.recipes import Recipe
from tests.api.runs.conftest import RUNS, Zoo, start

LONGER = changed(FINE_TUNE, Changes(epochs=9))
MINE = FINE_TUNE.model_copy(update={"name": "mine"})


@pytest.mark.parametrize(
    ("candidates", "twin"),
    [
        ([], None),
        # The same seed goes before the newest, and of equals the newest is taken.
        ([(3, 1, FINE_TUNE), (4, 2, FINE_TUNE), (5, 3, FINE_TUNE)], 4),
        ([(3, 2, FINE_TUNE), (4, 2, FINE_TUNE), (9, 3, FINE_TUNE)], 4),
        ([(3, 1, FINE_TUNE), (8, 3, FINE_TUNE), (5, 4, FINE_TUNE)], 8),
        # A name is no step; any other difference is another recipe.
        ([(3, 2, MINE)], 3),
        ([(3, 2, changed(FULL_DATA, Changes(train_on="train")))], 3),
        ([(3, 2, LONGER)], None),
        ([(3, 2, changed(FINE_TUNE, Changes(weights="none")))], None),
        # What saw all images speaks for nobody.
        ([(3, 2, FULL_DATA)], None),
        ([(3, 2, FULL_DATA), (4, 7, FINE_TUNE)], 4),
    ],
)
def test_a_twin_has_the_same_steps_and_kept_its_splits(
    candidates: list[tuple[int, int, Recipe]], twin: int | None
) -> None:
    assert choose_twin(FULL_DATA, 2, [Candidate(*one) for one in candidates]) == twin


def test_a_changed_recipe_has_a_twin_of_its_own() -> None:
    candidates = [Candidate(3, 2, FINE_TUNE), Candidate(4, 1, LONGER)]
    assert choose_twin(changed(LONGER, Changes(train_on="all")), 2, candidates) == 4


def test_the_way_to_a_twin_is_a_command_or_a_run() -> None:
    full = FullRun(7, dataset="bears", version=2, recipe="full-data", seed=5)
    assert "run 3" in way_to_twin(full, 3)
    words = way_to_twin(full, None)
    command = "bearloop train bears --version 2 --recipe full-data --train-on train --seed 5"
    assert f"on version 2 with its splits kept: `{command}`" in words
    assert "runs/7/spec" in words


def end(database: Database, number: int, state: JobState = JobState.done) -> None:
    """End a run as the worker does, with a report where it is done."""
    with database.transaction() as session:
        run = session.scalars(select(Run).where(Run.number == number)).one()
        session.get_one(Job, run.job_id).state = state
        if state is JobState.done:
            told = {"classes": [1, 2], "splits": {}, "conflicts": 0}
            session.add(Report(run_id=run.id, summary=told, loss_key="l", label_issue_key="i"))


def test_a_run_names_its_twin_once_that_is_done(
    client: TestClient, zoo: Zoo, database: Database
) -> None:
    full = start(client, recipe="full-data", seed=7)
    assert (full["train_on"], full["twin"]) == ("all", None)
    kept = start(client, seed=7)
    assert (kept["train_on"], kept["twin"]) == ("train", None)
    start(client, seed=8)
    start(client, seed=7, epochs=9)
    shown = f"{RUNS}/{full['number']}"
    for number, state, twin in (
        (2, JobState.failed, None),
        (4, JobState.done, None),
        (3, JobState.done, 3),
        (2, JobState.done, 2),
    ):
        end(database, number, state)
        assert client.get(shown).json()["twin"] == twin
    listed = {run["number"]: run["twin"] for run in client.get(RUNS).json()["items"]}
    assert listed == {1: 2, 2: None, 3: None, 4: None}


def test_a_run_of_another_version_is_no_twin(
    client: TestClient, zoo: Zoo, database: Database
) -> None:
    zoo.freeze(dataset="wolves", names=("grey", "arctic"))
    full = start(client, recipe="full-data")
    start(client, dataset="wolves")
    end(database, 2)
    assert client.get(f"{RUNS}/{full['number']}").json()["twin"] is None
