"""Versions over REST: what is frozen, what is refused, what changed."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from api.database import Database
from api.datasets.find import find_version
from api.datasets.versions import REMOVED, freeze_with_decisions, read_rows
from api.stores import below_project
from api.tables import Dataset, Project
from bearloop.contract.imports import LedgerLine
from bearloop.contract.manifest import manifest_digest
from bearloop.contract.record import ClassEntry
from bearloop.manifest_file import read_manifest
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears
from tests.api.imports.pictures import line, sha

Import = Callable[[list[LedgerLine]], None]


@pytest.fixture
def bears(client: TestClient) -> str:
    return make_bears(client)


@pytest.fixture
def bring(client: TestClient, database: Database, store: FolderStore) -> Import:
    """Import a ledger into the bears."""
    worker = Worker(database, store)

    def bring_lines(lines: list[LedgerLine]) -> None:
        source = {"kind": "urls", "urls": {"black": ["https://example.org/1.jpg"]}}
        answer = client.post("/v1/projects/zoo/datasets/bears/imports", json=source)
        assert answer.status_code == 202, answer.text
        worker.answer(lines)

    return bring_lines


def two_classes(count: int = 10, *, first: int = 0) -> list[LedgerLine]:
    return [
        line(n, f"{name} {first + n}", name)
        for n, name in enumerate(["black", "grizzly"] * (count // 2))
    ]


def test_a_version_is_what_is_current_named_by_its_digest(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring(two_classes(20))
    answer = client.post(f"{bears}/versions")
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert version["counts"]["valid"] == {"black": 2, "grizzly": 2}
    assert client.get(answer.headers["location"]).json() == version
    rows = read_manifest(client.get(f"{bears}/versions/1/manifest").content)
    classes = [ClassEntry.model_validate(entry) for entry in version["classes"]]
    assert manifest_digest(classes, rows) == version["digest"]
    assert [row.sha256 for row in rows] == sorted(row.sha256 for row in rows)


def test_the_same_content_is_the_same_version(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring(two_classes())
    first = client.post(f"{bears}/versions")
    bring(two_classes())
    again = client.post(f"{bears}/versions")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    image = f"{bears}/images/{sha('black 0')}"
    client.post(f"{image}/remove")
    other = client.post(f"{bears}/versions").json()
    assert (other["number"], other["parent"]) == (2, 1)
    client.post(f"{image}/restore")
    assert client.post(f"{bears}/versions").json()["number"] == 1


def test_nobody_moves_when_more_images_come(client: TestClient, bears: str, bring: Import) -> None:
    bring(two_classes(20))
    client.post(f"{bears}/versions")
    client.post(f"{bears}/images/{sha('black 0')}/remove")
    client.post(f"{bears}/images/{sha('grizzly 1')}/label", json={"class": "black"})
    bring(two_classes(20, first=20))
    version = client.post(f"{bears}/versions").json()
    changes = client.get(f"{bears}/versions/2/diff?against=1").json()
    assert changes["counts"] == {"added": 20, "removed": 1, "relabelled": 1, "moved": 0}
    assert changes["removed"] == [sha("black 0")]
    black, grizzly = (entry["id"] for entry in version["classes"])
    assert changes["relabelled"] == [{"sha256": sha("grizzly 1"), "old": grizzly, "new": black}]
    assert version["counts"]["valid"] == {"black": 4, "grizzly": 4}


def test_a_conflict_is_in_the_version_without_a_label(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring([*two_classes(), line(90, "both", "black"), line(91, "both", "grizzly")])
    version = client.post(f"{bears}/versions").json()
    assert (version["counts"]["conflicts"], version["counts"]["images"]) == (1, 11)
    rows = read_manifest(client.get(f"{bears}/versions/1/manifest").content)
    (conflict,) = [row for row in rows if row.state == "conflict"]
    assert (conflict.sha256, conflict.label) == (sha("both"), None)


def test_nothing_to_freeze_is_refused(client: TestClient, bears: str) -> None:
    assert _refusal(client, bears)["code"] == "no_images"


def test_one_class_only_is_refused(client: TestClient, bears: str, bring: Import) -> None:
    bring([line(n, f"{n}", "black") for n in range(5)])
    problem = _refusal(client, bears)
    assert (problem["code"], problem["value"]) == ("one_class", "black")


def test_an_empty_class_is_refused_until_it_is_merged(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring([*two_classes(), line(90, "junk", "junk")])
    client.post(f"{bears}/images/{sha('junk')}/remove")
    problem = _refusal(client, bears)
    assert (problem["code"], problem["value"]) == ("empty_class", "junk")
    assert "merge" in problem["way_out"]
    black, _, junk = client.get(f"{bears}/classes").json()["items"]
    answer = client.post(f"{bears}/classes/{junk['id']}/merge", json={"into": black["id"]})
    assert [entry["name"] for entry in answer.json()["items"]] == ["black", "grizzly"]
    assert client.post(f"{bears}/versions").status_code == 201


def test_a_class_that_cannot_validate_is_refused_by_name(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring([*two_classes(), line(90, "alone", "teddy")])
    problem = _refusal(client, bears)
    assert (problem["code"], problem["value"]) == ("no_valid_split", "teddy")
    splits = client.get(f"{bears}/images?split=train").json()["items"]
    assert splits == [], "a refused freeze places nobody"


def test_decisions_change_the_reviewed_version_and_later_imports_wait(
    client: TestClient, bears: str, bring: Import, database: Database, *, store: FolderStore
) -> None:
    bring([*two_classes(20), line(90, "both", "black"), line(91, "both", "grizzly")])
    client.post(f"{bears}/versions")
    bring(two_classes(20, first=20))
    with database.transaction() as session:
        dataset = session.scalars(select(Dataset)).one()
        zoo = below_project(store, dataset.project_id)
        base = find_version(session, dataset, 1)
        black, grizzly = (entry["id"] for entry in base.classes)
        changes = {sha("black 0"): grizzly, sha("both"): black, sha("grizzly 1"): REMOVED}
        cleaned = freeze_with_decisions(session, zoo, base=base, changes=changes, actor="reviewer")
        old = {row.sha256: row for row in read_rows(zoo, base)}
        new = {row.sha256: row for row in read_rows(zoo, cleaned)}
        again = freeze_with_decisions(session, zoo, base=base, changes=changes, actor="x")
        with pytest.raises(ValueError, match="has no image"):
            freeze_with_decisions(
                session, zoo, base=base, changes={sha("black 20"): REMOVED}, actor="x"
            )
    assert (cleaned.number, cleaned.parent_id) == (2, base.id)
    assert again.id == cleaned.id
    assert old.keys() - new.keys() == {sha("grizzly 1")}
    assert new.keys() < old.keys()
    assert new[sha("black 0")].label == grizzly
    assert (new[sha("both")].label, new[sha("both")].state) == (black, "labelled")
    assert all(new[image].split == old[image].split for image in new)


def test_a_frozen_version_cannot_be_changed_or_deleted(
    client: TestClient, bears: str, bring: Import, database: Database
) -> None:
    bring(two_classes())
    client.post(f"{bears}/versions")
    for statement in ("update version set digest = 'x'", "delete from version"):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            database.transaction() as s,
        ):
            s.execute(text(statement))


def test_the_content_is_there_before_the_row(
    client: TestClient, bears: str, bring: Import, project: Project, *, store: FolderStore
) -> None:
    bring(two_classes())
    zoo = below_project(store, project.id)
    (zoo.folder / "versions").write_bytes(b"the store is broken")  # type: ignore[attr-defined]
    assert client.post(f"{bears}/versions").status_code == 500
    assert client.get(f"{bears}/versions").json()["items"] == []
    (zoo.folder / "versions").unlink()  # type: ignore[attr-defined]
    assert client.post(f"{bears}/versions").json()["number"] == 1


def test_an_unknown_version_is_named(client: TestClient, bears: str) -> None:
    problem = client.get(f"{bears}/versions/3").json()
    assert (problem["code"], problem["value"]) == ("unknown_version", 3)
    assert client.get(f"{bears}/versions/0").status_code == 422


def test_versions_are_listed_newest_first_in_pages(
    client: TestClient, bears: str, bring: Import
) -> None:
    bring(two_classes(20))
    for number in (0, 2, 4):
        client.post(f"{bears}/versions")
        client.post(f"{bears}/images/{sha(f'black {number}')}/remove")
    first = client.get(f"{bears}/versions?limit=2").json()
    rest = client.get(f"{bears}/versions?limit=2&cursor={first['next']}").json()
    assert [v["number"] for v in (*first["items"], *rest["items"])] == [3, 2, 1]
    assert rest["next"] is None


def _refusal(client: TestClient, bears: str) -> dict[str, str]:
    answer = client.post(f"{bears}/versions")
    assert answer.status_code == 422
    problem: dict[str, str] = answer.json()
    assert problem["way_out"]
    assert client.get(f"{bears}/versions").json()["items"] == []
    return problem
