from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears
from tests.api.imports.pictures import folders, picture, zipped

BOTH = picture(99)


@pytest.fixture
def worker(database: Database, store: FolderStore) -> Worker:
    return Worker(database, store)


def test_a_folder_becomes_images_claims_and_a_ledger(
    client: TestClient, worker: Worker, tmp_path: Path
) -> None:
    bears = make_bears(client)
    root = folders(
        tmp_path / "bears",
        {f"{name}/{n}.png": picture(n * 2 + i) for i, name in enumerate("ab") for n in range(3)}
        | {"a/both.png": BOTH, "b/both.png": BOTH, "b/text.jpg": b"no picture", "a/empty.jpg": b""},
    )
    answer = client.post(f"{bears}/imports", json={"kind": "folder", "uri": root.as_uri()})
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    assert answer.json()["state"] == "queued"
    worker.work()
    done = client.get(place).json()
    assert (done["state"], done["stored"], done["duplicates"]) == ("done", 7, 1)
    assert (done["refused"], done["conflicts"]) == (2, 1)
    refused = client.get(f"{place}/sources?status=refused").json()["items"]
    assert [line["location"] for line in refused] == ["a/empty.jpg", "b/text.jpg"]
    assert all(line["code"] and line["detail"] for line in refused)
    (conflict,) = client.get(f"{bears}/images?state=conflict").json()["items"]
    image = f"{bears}/images/{conflict['sha256']}"
    events = client.get(f"{image}/history").json()["items"]
    assert [(e["kind"], e["class_name"], e["origin"]) for e in events] == [
        ("claim", "a", "import 1"),
        ("claim", "b", "import 1"),
    ]
    assert client.get(f"{image}/content").content == BOTH
    thumbnail = client.get(f"{image}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert "immutable" in thumbnail.headers["cache-control"]
    again = client.get(f"{image}/thumbnail", headers={"If-None-Match": thumbnail.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_an_uploaded_zip_is_imported_and_frozen(client: TestClient, worker: Worker) -> None:
    bears = make_bears(client)
    files = {
        f"{split}/{name}/{n}.png": picture(n + 10 * at + 100 * i)
        for at, split in enumerate(("train", "valid"))
        for i, name in enumerate("ab")
        for n in range(2)
    }
    upload = client.post(f"{bears}/uploads", content=zipped(files))
    assert upload.status_code == 201, upload.text
    assert upload.json()["bytes"] == len(zipped(files))
    source = {"kind": "zip", "upload": upload.json()["upload"]}
    assert client.post(f"{bears}/imports", json=source).status_code == 202
    worker.work()
    frozen = client.post(f"{bears}/versions")
    assert frozen.status_code == 201, frozen.text
    assert frozen.json()["counts"] == {
        "train": {"a": 2, "b": 2},
        "valid": {"a": 2, "b": 2},
        "test": {},
        "conflicts": 0,
        "images": 8,
    }
