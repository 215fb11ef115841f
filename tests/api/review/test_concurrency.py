"""Many reviewers at once: each image is seen by exactly one of them."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select, update

from api.access import Caller
from api.database import Database
from api.errors import ConflictError
from api.review.closing import close_review
from api.review.decisions import decide
from api.review.queue import create_review
from api.review.schemas import DecisionAsked, NewReview
from api.review.screens import claim
from api.roles import Role
from api.stores import below_project
from api.tables import Decision, LabelEvent, Project, QueuedImage, Screen
from bearloop.store import FolderStore
from tests.api.evaluation.trained import bears, train

IMAGES = 203
LEASE = timedelta(minutes=5)


@pytest.fixture
def queued(database: Database, store: FolderStore, project: Project) -> int:
    train(database, store, project, bears(IMAGES))
    with database.transaction() as session:
        own = below_project(store, project.id)
        create_review(session, own, caller(project, "trainer"), asked=NewReview(run=1))
    return IMAGES


def caller(project: Project, name: str) -> Caller:
    return Caller(name, 1, Role.trainer, project.id, project.name)


def work(database: Database, who: Caller, *, start: Barrier) -> list[str]:
    """Claim and decide until nothing is left; return the images seen."""
    seen: list[str] = []
    start.wait()
    while True:
        with database.transaction() as session:
            screen = claim(session, who, 1, lease=LEASE)
        if screen.screen is None:
            return seen
        seen += [image.sha256 for image in screen.images]
        asked = [DecisionAsked(sha256=image.sha256, verb="unsure") for image in screen.images]
        with database.transaction() as session:
            decide(session, who, 1, screen_id=screen.screen, asked=asked)


def test_eight_reviewers_see_each_image_once(
    database: Database, project: Project, queued: int
) -> None:
    start = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        people = [caller(project, f"reviewer {at}") for at in range(8)]
        done = list(pool.map(lambda who: work(database, who, start=start), people))
    seen = Counter(sha256 for own in done for sha256 in own)
    assert len(seen) == queued
    assert set(seen.values()) == {1}
    assert sum(bool(own) for own in done) > 1
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Decision)) == queued


def test_reviewers_who_only_claim_share_no_image(
    database: Database, project: Project, queued: int
) -> None:
    def one_claim(who: Caller) -> list[str]:
        start.wait()
        with database.transaction() as session:
            return [image.sha256 for image in claim(session, who, 1, lease=LEASE).images]

    for turn in range(4):
        start = Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            people = [caller(project, f"reviewer {turn} {at}") for at in range(8)]
            seen = [sha256 for own in pool.map(one_claim, people) for sha256 in own]
        assert len(seen) == len(set(seen)) == 40


def test_two_tabs_of_one_reviewer_get_one_screen(
    database: Database, project: Project, queued: int
) -> None:
    start = Barrier(6)

    def tab(_: int) -> object:
        start.wait()
        with database.transaction() as session:
            return claim(session, caller(project, "reviewer"), 1, lease=LEASE).screen

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(tab, range(6)))) == 1
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Screen)) == 1


def test_a_claim_whose_lease_ended_is_retaken_by_one_only(
    database: Database, project: Project, queued: int
) -> None:
    with database.transaction() as session:
        # A lease of no length is over as soon as the next transaction begins.
        claim(session, caller(project, "gone"), 1, lease=timedelta(0))
    start = Barrier(4)

    def take(who: Caller) -> set[str]:
        start.wait()
        with database.transaction() as session:
            return {image.sha256 for image in claim(session, who, 1, lease=LEASE).images}

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, [caller(project, f"reviewer {at}") for at in range(4)]))
    assert sum(len(own) for own in taken) == len(set.union(*taken)) == 20
    with database.transaction() as session:
        ranks = session.scalars(select(QueuedImage.rank).where(QueuedImage.screen_id.is_not(None)))
        assert sorted(ranks) == list(range(20))


def test_closing_waits_for_decisions_and_happens_once(
    database: Database, store: FolderStore, project: Project, queued: int
) -> None:
    reviewer, trainer = caller(project, "reviewer"), caller(project, "trainer")
    with database.transaction() as session:
        screen = claim(session, reviewer, 1, lease=LEASE)
    assert screen.screen is not None
    asked = [DecisionAsked(sha256=image.sha256, verb="remove") for image in screen.images]
    start = Barrier(3)

    def closing() -> str:
        start.wait()
        with database.transaction() as session:
            own = below_project(store, project.id)
            return str(close_review(session, own, trainer, number=1, retrain=False).version)

    def deciding() -> str:
        start.wait()
        assert screen.screen is not None
        with database.transaction() as session:
            decide(session, reviewer, 1, screen_id=screen.screen, asked=asked)
        return "decided"

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work) for work in (closing, closing, deciding)]
    refused = [future.exception() for future in futures]
    assert sum(error is None for error in refused[:2]) == 1
    assert all(error is None or isinstance(error, ConflictError) for error in refused)
    with database.transaction() as session:
        decided = session.scalar(select(func.count()).select_from(Decision))
        removed = session.scalar(select(func.count()).where(LabelEvent.kind == "remove"))
        # Either the decisions came before the close, and were written; or after, and were refused.
        assert decided == removed
        assert decided == (0 if refused[2] else 5)
        session.execute(update(QueuedImage).values(decided=True))
