"""The lesson's own bears: real photographs, with one that lies in two folders."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears

BEARS = Path(__file__).resolve().parents[4] / "shared" / "data" / "bears"
BOTH = "grizzly/00000122.jpg"


@pytest.mark.skipif(not BEARS.is_dir(), reason="the lesson's photographs are not here")
def test_the_photograph_in_two_folders_is_one_image_with_two_claims(
    client: TestClient, database: Database, store: FolderStore
) -> None:
    bears = make_bears(client)
    client.post(f"{bears}/imports", json={"kind": "folder", "uri": BEARS.as_uri()})
    Worker(database, store).work()
    done = client.get(f"{bears}/imports/1").json()
    assert (done["stored"], done["duplicates"], done["conflicts"]) == (477, 3, 1)
    (conflict,) = client.get(f"{bears}/images?state=conflict").json()["items"]
    image = f"{bears}/images/{conflict['sha256']}"
    assert client.get(f"{image}/content").content == (BEARS / BOTH).read_bytes()
    claims = client.get(f"{image}/history").json()["items"]
    assert [(claim["kind"], claim["class_name"]) for claim in claims] == [
        ("claim", "black"),
        ("claim", "grizzly"),
    ]
    version = client.post(f"{bears}/versions").json()
    assert version["counts"]["conflicts"] == 1
    assert set(version["counts"]["valid"]) == {"black", "grizzly", "teddys"}
