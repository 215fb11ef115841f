"""A run's lr-finds and their pictures over REST: as it goes on, done, or with nothing found."""

import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select, update

from api.database import Database
from api.stores import below_project
from api.tables import Job, Project, Run
from bearloop.contract.jobs import Progress, attempt_prefix
from bearloop.contract.runs import Curves, LrFind, LrFinds, StepPoint
from bearloop.store import FolderStore, Store
from tests.api.evaluation.trained import FOUND
from tests.api.runs.conftest import RUNS, Zoo, start
from trainer.plots import draw_lr_find

PATH = f"{RUNS}/1/lr-finder"
PICTURE = f"{RUNS}/1/lr-finder.png"
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


class TestPicture:
    def test_it_is_there_as_soon_as_its_search_has_ended(
        self,
        client: TestClient,
        callers: Callable[[str], TestClient],
        zoo: Zoo,
        *,
        database: Database,
        own: Store,
    ) -> None:
        prefix = begin(client, database)
        drawn = leave(own, prefix, of_frozen())
        answer = callers("viewer").get(PICTURE)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == client.get(PICTURE, params={"stage": "frozen"}).content == drawn
        assert Image.open(io.BytesIO(answer.content)).width > 300
        assert callers("stranger").get(PICTURE).status_code == 404

    def test_a_failed_run_shows_where_no_rate_was_found(
        self, client: TestClient, zoo: Zoo, database: Database, own: Store
    ) -> None:
        prefix = begin(client, database)
        drawn = leave(own, prefix, NOTHING.model_copy(update={"stage": "frozen"}))
        put_state(database, "failed")
        assert client.get(PICTURE).content == drawn

    def test_without_a_stage_it_is_the_first_search(
        self, client: TestClient, zoo: Zoo, database: Database, own: Store
    ) -> None:
        first = leave(own, begin(client, database), of_frozen(), NOTHING)
        assert client.get(PICTURE).content == first == draw_lr_find(of_frozen())
        second = client.get(PICTURE, params={"stage": "whole"}).content
        assert second == draw_lr_find(NOTHING) != first

    def test_until_the_next_attempt_has_it_the_one_before_is_read(
        self, client: TestClient, zoo: Zoo, database: Database, own: Store
    ) -> None:
        before = begin(client, database)
        for attempt, second in (("lost", 1), ("a", 2), ("0", 0)):
            prefix = before.replace("/a/", f"/{attempt}/")
            at = datetime(2026, 1, 1, second=second, tzinfo=UTC)
            own.put(f"{prefix}progress.json", Progress(stage="s", done=1, at=at).canonical())
            leave(own, prefix, of_frozen(lr=1e-3 * (1 + second)))
        for newest in (None, "b"):
            put_state(database, "running", attempt=newest)
            assert client.get(PATH).json()["finds"][0]["lr"] == 3e-3
            assert client.get(PICTURE).content == own.get(f"{before}lr-finder-frozen.png")
        put_state(database, "running", attempt="lost")
        assert client.get(PATH).json()["finds"][0]["lr"] == 2e-3

    def test_a_run_that_is_done_shows_that_of_the_attempt_that_did_it(
        self, client: TestClient, zoo: Zoo, database: Database, own: Store
    ) -> None:
        newest = begin(client, database)
        did = newest.replace("/a/", "/b/")
        expected = leave(own, did, of_frozen())
        leave(own, newest, of_frozen(lr=1.0))
        own.put(did + "curves.json", Curves(epochs=(), steps=(), lr_finds=(FROZEN,)).canonical())
        with database.transaction() as session:
            session.execute(update(Run).values(curves_key=did + "curves.json"))
        assert client.get(PICTURE).content == expected

    def test_what_is_not_there_is_told_with_the_way_out(
        self, client: TestClient, zoo: Zoo, database: Database, own: Store
    ) -> None:
        prefix = begin(client, database)
        early = problem(client)
        assert (early["code"], early["field"], early["value"]) == ("no_search", "state", "running")
        assert "'frozen' has not ended yet" in early["detail"]
        unknown = problem(client, stage="unfrozen")
        assert (unknown["field"], unknown["value"]) == ("stage", "unfrozen")
        assert "it has one before: frozen" in unknown["detail"]
        put_state(database, "cancelled")
        assert "why it ended" in problem(client, stage="frozen")["way_out"]
        own.put(prefix + "lr-finder.json", LrFinds(finds=(FROZEN,)).canonical())
        old = problem(client)
        assert (old["code"], old["field"], old["value"]) == ("no_picture", "stage", "frozen")
        assert "/lr-finder has the points" in old["way_out"]

    def test_a_run_without_searches_is_told_how_to_have_one(
        self, client: TestClient, zoo: Zoo
    ) -> None:
        start(client)
        for asked in ({}, {"stage": "frozen"}):
            told = problem(client, **asked)
            assert (told["code"], told["field"]) == ("no_search", "recipe")
            assert told["value"] == "fine-tune"
            assert "--lr auto" in told["way_out"]


def of_frozen(lr: float = 8e-3) -> LrFind:
    return FOUND.model_copy(update={"stage": "frozen", "lr": lr})


FROZEN = of_frozen()


def leave(own: Store, prefix: str, *finds: LrFind) -> bytes:
    """Leave what a trainer leaves of its searches; returns the first one's picture."""
    own.put(prefix + "lr-finder.json", LrFinds(finds=finds).canonical())
    for find in finds:
        own.put(f"{prefix}lr-finder-{find.stage}.png", draw_lr_find(find))
    return draw_lr_find(finds[0])


def put_state(database: Database, state: str, *, attempt: str | None = "a") -> None:
    with database.transaction() as session:
        session.execute(update(Job).values(state=state, attempt=attempt))


def problem(client: TestClient, **asked: str) -> dict[str, str]:
    answer = client.get(PICTURE, params=asked)
    assert answer.status_code == 404, answer.text
    return dict(answer.json())
