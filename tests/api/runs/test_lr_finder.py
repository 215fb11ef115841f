"""A run's lr-finds over REST: while it goes on, when they found nothing, and when it is done."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.database import Database
from api.stores import below_project
from api.tables import Job, Project, Run
from bearloop.contract.jobs import attempt_prefix
from bearloop.contract.runs import Curves, LrFind, LrFinds, StepPoint
from bearloop.store import FolderStore, Store
from tests.api.evaluation.trained import FOUND
from tests.api.runs.conftest import RUNS, Zoo, start

PATH = f"{RUNS}/1/lr-finder"
NOTHING = LrFind(
    stage="whole",
    points=(),
    end="not_finite",
    suggestions={},
    no_suggestion="not_finite",
    reason="the loss was soon no number",
    disagreement=None,
    lr=None,
)


@pytest.fixture
def own(store: FolderStore, project: Project) -> Store:
    return below_project(store, project.id)


def begin(client: TestClient, database: Database) -> str:
    """Start a run that asks for its rate to be found; returns its attempt's prefix."""
    start(client, lr="auto")
    with database.transaction() as session:
        job = session.scalars(select(Run.job_id)).one()
        session.execute(update(Job).values(attempt="a", state="running"))
    return attempt_prefix(str(job), "a")


def test_nobody_and_strangers_see_nothing(
    client: TestClient, callers: Callable[[str], TestClient], zoo: Zoo
) -> None:
    start(client)
    assert callers("stranger").get(PATH).status_code == 404
    assert callers("viewer").get(PATH).json() == {"finds": []}
    client.headers.pop("Authorization")
    assert client.get(PATH).status_code == 401


def test_what_is_found_is_shown_while_the_run_goes_on(
    client: TestClient, zoo: Zoo, database: Database, own: Store
) -> None:
    prefix = begin(client, database)
    assert client.get(PATH).json() == {"finds": []}
    own.put(prefix + "lr-finder.json", LrFinds(finds=(FOUND,)).canonical())
    (found,) = client.get(PATH).json()["finds"]
    assert found["suggestions"]["valley"] == found["lr"] == 8e-3
    assert found["points"] == [{"lr": 1e-7, "loss": 1.2, "smoothed": 1.2}]


def test_a_failed_run_still_says_why_no_rate_was_found(
    client: TestClient, zoo: Zoo, database: Database, own: Store
) -> None:
    prefix = begin(client, database)
    own.put(prefix + "lr-finder.json", LrFinds(finds=(NOTHING,)).canonical())
    with database.transaction() as session:
        session.execute(update(Job).values(state="failed"))
    (found,) = client.get(PATH).json()["finds"]
    assert (found["lr"], found["suggestions"]) == (None, {})
    assert (found["no_suggestion"], found["reason"]) == ("not_finite", NOTHING.reason)


def test_a_run_that_its_input_ended_shows_how_far_it_came(
    client: TestClient, zoo: Zoo, database: Database, own: Store
) -> None:
    prefix = begin(client, database)
    step = StepPoint(step=1, loss=1.5, lr=1e3, momentum=0.9)
    own.put(prefix + "curves.json", Curves(epochs=(), steps=(step,)).canonical())
    with database.transaction() as session:
        session.execute(update(Job).values(state="failed"))
    assert client.get(f"{RUNS}/1/curves").json()["steps"] == [step.model_dump()]


def test_a_run_that_is_done_shows_them_with_its_curves(
    client: TestClient, zoo: Zoo, database: Database, own: Store
) -> None:
    begin(client, database)
    own.put("c.json", Curves(epochs=(), steps=(), lr_finds=(FOUND, NOTHING)).canonical())
    with database.transaction() as session:
        session.execute(update(Run).values(curves_key="c.json"))
    assert [find["stage"] for find in client.get(PATH).json()["finds"]] == ["head", "whole"]
