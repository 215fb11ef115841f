"""Imports over REST: what is refused, tried again, cancelled, and how the ledger reads."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.database import Database
from api.settings import Settings
from api.tables import Job, Project
from bearloop.contract.imports import ImportSpec
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears
from tests.api.imports.pictures import line, refused, sha, zipped

URLS = {"kind": "urls", "urls": {"black": ["https://example.org/1.jpg"]}}


@pytest.fixture
def worker(database: Database, store: FolderStore) -> Worker:
    return Worker(database, store)


@pytest.fixture
def bears(client: TestClient) -> str:
    return make_bears(client)


def test_what_cannot_be_imported_is_refused_at_once(
    client: TestClient, bears: str, tmp_path: Path
) -> None:
    here = tmp_path.as_uri()
    labels = {"path": "../labels.csv"}
    wrong: list[tuple[dict[str, object], str, str]] = [
        ({"kind": "folder", "uri": f"{here}/nowhere"}, "no_such_folder", "uri"),
        ({"kind": "folder", "uri": "photos"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": "C:\\photos"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": "file://elsewhere/photos"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": f"{here}/../x"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": f"{here}/.\t./x"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": f"{here}/%2E%0A./x"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": "https://example.org/"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": "s3://"}, "bad_address", "uri"),
        ({"kind": "folder", "uri": "s3://bucket/bears"}, "forbidden_address", "uri"),
        ({"kind": "folder", "uri": here, "labels": labels}, "bad_labels_path", "labels.path"),
        ({"kind": "zip", "upload": "0" * 64}, "unknown_upload", "upload"),
        ({"kind": "zip", "upload": "../../etc/passwd"}, "unknown_upload", "upload"),
        ({"kind": "urls", "urls": {}}, "empty_source", "urls"),
        ({"kind": "urls", "urls": {"black": [" "]}}, "empty_source", "urls.black"),
        ({"kind": "urls", "urls": {" ": ["https://a"]}}, "bad_class_name", "urls"),
        (
            {"kind": "urls", "urls": {"black": ["https://a"], "black ": ["https://b"]}},
            "bad_class_name",
            "urls",
        ),
        ({"kind": "urls", "urls": {"black": "https://a"}}, "malformed", "body.urls.black"),
        ({"kind": "ftp"}, "malformed", "body"),
    ]
    for source, code, field in wrong:
        answer = client.post(f"{bears}/imports", json=source)
        assert (answer.status_code, answer.json()["code"]) == (422, code), source
        assert answer.json()["field"] == field, source
        assert answer.json().get("way_out") or code == "malformed", source
    assert client.get(f"{bears}/imports").json()["items"] == []


def test_the_operator_lists_what_members_may_name(
    client: TestClient, bears: str, callers: Callable[[str], TestClient]
) -> None:
    told = {"allowed_sources": ["s3://photos/team"]}
    assert callers("platform").patch("/v1/projects/zoo", json=told).status_code == 200
    for uri, status in {
        "s3://photos/team": 202,
        "s3://photos/team/bears": 202,
        "s3://photos/team-2/bears": 422,
        "s3://photos/team/../other": 422,
        "s3://photos/team/%2e%2e/other": 422,
        "s3://photos": 422,
    }.items():
        answer = client.post(f"{bears}/imports", json={"kind": "folder", "uri": uri})
        assert answer.status_code == status, uri


def test_a_private_address_is_no_error_of_the_import(client: TestClient, bears: str) -> None:
    source = {"kind": "urls", "urls": {"black": ["http://169.254.169.254/", "", "ftp://x"]}}
    assert client.post(f"{bears}/imports", json=source).status_code == 202


def test_the_spec_is_complete_when_it_is_queued(
    client: TestClient, bears: str, database: Database
) -> None:
    client.post(f"{bears}/imports", json=URLS)
    with database.transaction() as session:
        job = session.scalars(select(Job)).one()
    spec = ImportSpec.model_validate(job.spec)
    assert job.spec == spec.model_dump(mode="json")
    assert (spec.job, spec.project, spec.dataset) == (str(job.id), "zoo", "bears")


def test_the_ledger_is_read_in_pages_and_by_status(
    client: TestClient, bears: str, worker: Worker
) -> None:
    client.post(f"{bears}/imports", json=URLS)
    lines = [line(n, str(n), "black") if n % 3 else refused(n, "http_404") for n in range(10)]
    worker.answer(lines)
    sources = f"{bears}/imports/1/sources"
    first = client.get(f"{sources}?limit=6").json()
    rest = client.get(f"{sources}?limit=6&cursor={first['next']}").json()
    assert [row["position"] for row in (*first["items"], *rest["items"])] == list(range(10))
    refusals = client.get(f"{sources}?status=refused").json()["items"]
    assert [row["position"] for row in refusals] == [0, 3, 6, 9]
    assert client.get(f"{sources}?status=lost").status_code == 422
    assert client.get(f"{sources}?cursor=WyJhIl0=").json()["code"] == "bad_cursor"


def test_a_retry_takes_the_lines_that_may_pass(
    client: TestClient, bears: str, worker: Worker, database: Database
) -> None:
    client.post(f"{bears}/imports", json=URLS)
    assert client.post(f"{bears}/imports/1/retry").json()["code"] == "import_running"
    codes = ["http_404", "timeout", "http_503", "private_address", "connection", "truncated"]
    worker.answer([refused(n, code) for n, code in enumerate(codes)])
    answer = client.post(f"{bears}/imports/1/retry")
    assert answer.status_code == 202, answer.text
    assert answer.json()["retry_of"] == 1
    assert answer.headers["location"].endswith("/imports/2")
    with database.transaction() as session:
        newest = session.scalars(select(Job).order_by(Job.created_at.desc())).first()
    assert newest is not None
    assert newest.spec["only"] == [1, 2, 4]
    worker.answer([refused(1, "http_404")])
    nothing = client.post(f"{bears}/imports/2/retry")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_to_retry")


def test_a_failed_import_is_tried_again_whole(
    client: TestClient, bears: str, worker: Worker
) -> None:
    client.post(f"{bears}/imports", json=URLS)
    worker.fail()
    shown = client.get(f"{bears}/imports/1").json()
    assert (shown["state"], shown["reason"]) == ("failed", "the process died three times")
    assert client.post(f"{bears}/imports/1/retry").status_code == 202
    worker.answer([line(0, "x", "black")])
    assert client.get(f"{bears}/imports/2").json()["stored"] == 1


def test_cancelling_asks_the_worker_and_an_ended_import_is_refused(
    client: TestClient, bears: str, worker: Worker, database: Database
) -> None:
    client.post(f"{bears}/imports", json=URLS)
    assert client.post(f"{bears}/imports/1/cancel").status_code == 202
    with database.transaction() as session:
        assert session.scalars(select(Job)).one().cancel_asked
    worker.fail()
    answer = client.post(f"{bears}/imports/1/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "import_ended")
    assert client.post(f"{bears}/imports/9/cancel").json()["code"] == "unknown_import"


def test_claims_of_two_imports_conflict_and_their_splits_do_not_move(
    client: TestClient, bears: str, worker: Worker
) -> None:
    for name, split in (("black", "train"), ("grizzly", "test")):
        client.post(f"{bears}/imports", json=URLS)
        worker.answer([line(0, "x", name, split=split)])
    assert client.get(f"{bears}/imports/1").json()["conflicts"] == 0
    assert client.get(f"{bears}/imports/2").json()["conflicts"] == 1
    image = client.get(f"{bears}/images/{sha('x')}").json()
    assert (image["state"], image["split"]) == ("conflict", "train")
    (row,) = client.get(f"{bears}/imports/2/sources").json()["items"]
    assert (row["split"], row["code"]) == ("test", "split_kept")
    assert "train" in row["detail"]


def test_uploads_are_kept_by_content_and_capped(
    client: TestClient, bears: str, settings: Settings, *, app: object, project: Project
) -> None:
    data = zipped({"a/1.txt": b"1"})
    first, second = (client.post(f"{bears}/uploads", content=data) for _ in range(2))
    assert first.json() == second.json()
    keyed = client.post(f"{bears}/uploads", content=data, headers={"Idempotency-Key": "k"})
    assert keyed.json() == first.json()
    for body in (b"", b"no zip"):
        answer = client.post(f"{bears}/uploads", content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "no_zip")
    app.state.settings = settings.model_copy(update={"max_upload": 50})  # type: ignore[attr-defined]
    for content in (data, iter([data])):  # announced, and in chunks of unknown length
        answer = client.post(f"{bears}/uploads", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


def test_an_import_shows_counts_for_long_lists(client: TestClient, bears: str) -> None:
    client.post(f"{bears}/imports", json=URLS)
    client.post(f"{bears}/imports", json=URLS)
    page = client.get(f"{bears}/imports").json()
    assert [shown["number"] for shown in page["items"]] == [2, 1]
    assert page["items"][0]["source"]["urls"] == {"black": 1}
