"""Closing: label events, the cleaned version and the retraining run, all or nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from api.database import Database
from api.labels import NewEvent, append_events
from api.stores import below_project
from api.tables import DatasetImage, Job, LabelEvent, Run, Version
from bearloop.contract.runs import RunSpec
from bearloop.manifest_file import read_manifest
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Trained, sha
from tests.api.review.reviewing import REVIEW, claim, decide, expire, get, post

Callers = Callable[[str], TestClient]


def manifest(database: Database, store: FolderStore, trained: Trained, number: int) -> Any:
    """Return the labels of a version by sha256."""
    with database.transaction() as session:
        query = select(Version).where(
            Version.dataset_id == trained.dataset_id, Version.number == number
        )
        key = session.scalars(query).one().manifest_key
    rows = read_manifest(below_project(store, trained.project_id).get(key))
    return {row.sha256: row.label for row in rows}


def events(database: Database, sha256: str) -> list[tuple[str, int | None, str, str]]:
    with database.transaction() as session:
        rows = session.scalars(
            select(LabelEvent).where(LabelEvent.sha256 == sha256).order_by(LabelEvent.id)
        )
        return [(row.kind, row.class_id, row.actor, row.origin) for row in rows]


def test_decisions_become_events_and_the_cleaned_version(
    callers: Callers,
    database: Database,
    store: FolderStore,
    trained: Trained,
    review: dict[str, Any],
) -> None:
    reviewer = callers("reviewer")
    decide(reviewer, claim(reviewer), {0: "grizzly", 1: "keep", 2: "remove", 3: "unsure"})
    closed = post(callers("trainer"), "close")
    assert closed["version"] == 2
    assert closed["written"] == {"relabel": 1, "keep": 1, "remove": 1}
    assert closed["conflicts"] == []
    assert closed["retraining_run"] is None
    assert closed["review"]["state"] == "closed"
    assert closed["review"]["cleaned_version"] == 2
    black, grizzly, _ = trained.classes
    before, after = (manifest(database, store, trained, number) for number in (1, 2))
    assert after.pop(sha("i00000")) == grizzly
    assert before.pop(sha("i00000")) == black
    assert sha("i00002") not in after
    del before[sha("i00002")]
    assert before == after
    assert events(database, sha("i00000"))[-1] == ("label", grizzly, "reviewer", "review 1")
    assert events(database, sha("i00001"))[-1] == ("label", grizzly, "reviewer", "review 1")
    assert events(database, sha("i00002"))[-1] == ("remove", None, "reviewer", "review 1")
    assert len(events(database, sha("i00003"))) == 1
    with database.transaction() as session:
        state = session.get_one(DatasetImage, (trained.dataset_id, sha("i00000")))
        assert state.class_id == grizzly
        assert state.split == "valid"


def test_a_label_that_changed_since_is_reported_and_not_overwritten(
    client: TestClient,
    database: Database,
    store: FolderStore,
    trained: Trained,
    review: dict[str, Any],
) -> None:
    decide(client, claim(client), {0: "grizzly", 1: "teddy", 2: "remove", 3: "keep", 4: "keep"})
    black, _, teddy = trained.classes
    with database.transaction() as session:
        since = [
            NewEvent(sha("i00000"), "label", teddy),  # not what the reviewer says
            NewEvent(sha("i00001"), "label", teddy),  # the very same
            NewEvent(sha("i00002"), "remove"),  # the very same
            NewEvent(sha("i00003"), "remove"),  # not what the reviewer says
        ]
        append_events(session, trained.dataset_id, since, actor="somebody", origin="api")
    closed = post(client, "close")
    assert [(one["sha256"], one["verb"]) for one in closed["conflicts"]] == [
        (sha("i00000"), "relabel"),
        (sha("i00003"), "keep"),
    ]
    first = closed["conflicts"][0]
    assert (first["seen"], first["class"], first["now"]) == ("black", "grizzly", "teddy")
    assert closed["conflicts"][1]["removed"]
    assert closed["written"] == {"keep": 1}
    for name in ("i00000", "i00001", "i00002", "i00003"):
        assert events(database, sha(name))[-1][2] == "somebody"
    after = manifest(database, store, trained, 2)
    assert after[sha("i00000")] == black
    assert after[sha("i00001")] == teddy
    assert sha("i00002") not in after
    assert sha("i00003") in after


def test_undone_decisions_are_not_written_but_stay_on_record(
    client: TestClient, database: Database, review: dict[str, Any]
) -> None:
    decide(client, claim(client), {0: "remove"})
    post(client, "undo")
    closed = post(client, "close")
    assert closed["written"] == {}
    assert len(events(database, sha("i00000"))) == 1
    assert len(get(client, "decisions")["items"]) == 1


def test_closing_can_queue_the_same_training_on_the_cleaned_version(
    client: TestClient, database: Database, review: dict[str, Any]
) -> None:
    decide(client, claim(client), {0: "grizzly"})
    closed = post(client, "close", {"retrain": True})
    assert closed["retraining_run"] == 2
    assert closed["review"]["retraining_run"] == 2
    with database.transaction() as session:
        first, again = session.scalars(select(Run).order_by(Run.number)).all()
        assert (again.recipe, again.recipe_digest, again.seed) == (
            first.recipe,
            first.recipe_digest,
            first.seed,
        )
        version = session.get_one(Version, again.version_id)
        assert version.number == closed["version"]
        before = RunSpec.model_validate(session.get_one(Job, first.job_id).spec)
        job = session.get_one(Job, again.job_id)
        spec = RunSpec.model_validate(job.spec)
        assert job.state == "queued"
    assert (spec.recipe, spec.seed, spec.device) == (before.recipe, before.seed, before.device)
    assert (spec.run, spec.version_digest, spec.job) == (2, version.digest, str(job.id))
    assert spec.tracking is None


def test_a_closed_review_takes_nothing_more_and_names_its_version(
    client: TestClient, review: dict[str, Any]
) -> None:
    screen = claim(client)
    decide(client, screen, {0: "grizzly"})
    post(client, "close")
    for path in ("close", "claim", "undo", "release"):
        refused = post(client, path, status=409)
        assert refused["code"] == "already_closed"
        assert refused["value"] == {"review": 1, "version": 2}
        assert "version 2" in refused["way_out"]
    assert decide(client, screen, {1: "keep"}, status=409)["code"] == "already_closed"


def test_a_failed_close_leaves_no_trace(
    client: TestClient,
    database: Database,
    store: FolderStore,
    trained: Trained,
    review: dict[str, Any],
) -> None:
    decide(client, claim(client), {0: "grizzly"})
    manifests = below_project(store, trained.project_id)
    key = f"versions/{'1' * 64}/manifest.parquet"
    kept = manifests.get(key)
    manifests.delete(key)
    assert client.post(f"{REVIEW}/close", json={"retrain": True}).status_code == 500
    assert client.get(REVIEW).json()["state"] == "open"
    assert len(events(database, sha("i00000"))) == 1
    manifests.put(key, kept)
    assert post(client, "close")["version"] == 2


def test_an_idempotent_close_is_answered_again(client: TestClient, review: dict[str, Any]) -> None:
    decide(client, claim(client), {0: "grizzly"})
    headers = {"Idempotency-Key": "once"}
    first, again = (client.post(f"{REVIEW}/close", headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()


def test_a_merged_class_is_what_it_was_merged_into(
    client: TestClient,
    database: Database,
    store: FolderStore,
    trained: Trained,
    review: dict[str, Any],
) -> None:
    decide(client, claim(client), {0: "grizzly", 1: "keep"})
    _, grizzly, teddy = trained.classes
    with database.transaction() as session:
        session.execute(
            text("update class set merged_into = :teddy where id = :grizzly"),
            {"teddy": teddy, "grizzly": grizzly},
        )
        session.execute(
            text("update dataset_image set class_id = :teddy where class_id = :grizzly"),
            {"teddy": teddy, "grizzly": grizzly},
        )
    closed = post(client, "close")
    assert closed["conflicts"] == []
    assert events(database, sha("i00000"))[-1][:2] == ("label", teddy)
    assert manifest(database, store, trained, closed["version"])[sha("i00001")] == teddy


@pytest.mark.parametrize("retrain", [False, True])
def test_what_was_decided_before_the_lease_ended_is_written(
    client: TestClient, database: Database, review: dict[str, Any], retrain: bool
) -> None:
    decide(client, claim(client), {0: "remove"})
    expire(database)
    assert post(client, "close", {"retrain": retrain})["written"] == {"remove": 1}
