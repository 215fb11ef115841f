"""Images, classes and the profile over REST."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears
from tests.api.imports.pictures import line, sha

URLS = {"kind": "urls", "urls": {"black": ["https://example.org/1.jpg"]}}


@pytest.fixture
def bears(client: TestClient, database: Database, store: FolderStore) -> str:
    """Ten black ones, ten grizzlies, and one that is claimed for both."""
    path = make_bears(client)
    client.post(f"{path}/imports", json=URLS)
    pictures = [line(n, f"{name} {n}", name) for n in range(10) for name in ("black", "grizzly")]
    both = [line(20, "both", "black"), line(21, "both", "grizzly")]
    lines = [
        entry.model_copy(update={"position": at}) for at, entry in enumerate([*pictures, *both])
    ]
    Worker(database, store).answer(lines)
    return path


def test_a_person_settles_a_conflict_for_good(client: TestClient, bears: str) -> None:
    image = f"{bears}/images/{sha('both')}"
    assert client.get(image).json()["state"] == "conflict"
    answer = client.post(f"{image}/label", json={"class": "grizzly", "reason": "the hump"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["class_name"]) == ("labelled", "grizzly")
    event = client.get(f"{image}/history").json()["items"][-1]
    assert event["actor"] == "admin"
    assert (event["kind"], event["origin"], event["reason"]) == ("label", "api", "the hump")


def test_removed_is_hidden_by_choice_and_restored_with_its_label(
    client: TestClient, bears: str
) -> None:
    image = f"{bears}/images/{sha('black 1')}"
    before = client.get(image).json()
    assert client.post(f"{image}/remove", json={"reason": "a logo"}).json()["removed"]
    client.post(f"{image}/remove")
    assert [i["sha256"] for i in _list(client, f"{bears}/images?removed=true")] == [sha("black 1")]
    assert len(_list(client, f"{bears}/images?removed=false")) == 20
    assert client.post(f"{image}/restore").json() == before
    kinds = [event["kind"] for event in client.get(f"{image}/history").json()["items"]]
    assert kinds == ["claim", "remove", "restore"]


def test_pages_hold_every_image_once_and_filters_hold(client: TestClient, bears: str) -> None:
    images = _list(client, f"{bears}/images?limit=4")
    names = [image["sha256"] for image in images]
    assert names == sorted(names)
    assert len(set(names)) == 21
    black = _list(client, f"{bears}/images?label=black&limit=3")
    assert {image["class_name"] for image in black} == {"black"}
    assert len(black) == 10
    assert _list(client, f"{bears}/images?split=valid") == []


def test_what_is_not_there_is_named(client: TestClient, bears: str) -> None:
    wrong = {
        "/images?label=polar": "unknown_class",
        "/images?state=lost": "malformed",
        "/images?colour=red": "malformed",
        "/images?cursor=nonsense": "bad_cursor",
        "/images?cursor=WzFd": "bad_cursor",
        f"/images/{'0' * 64}": "unknown_image",
        f"/images/{'0' * 64}/content": "unknown_image",
        "/images/short": "malformed",
    }
    for path, code in wrong.items():
        answer = client.get(bears + path)
        assert (answer.json()["code"], answer.status_code in (404, 422)) == (code, True), path
        assert answer.json()["field"], path


def test_an_unknown_class_names_those_there_are(client: TestClient, bears: str) -> None:
    answer = client.post(f"{bears}/images/{sha('both')}/label", json={"class": "polar"})
    assert answer.status_code == 404
    assert answer.json()["way_out"] == "name one of: black, grizzly"
    assert client.get(f"{bears}/images/{sha('both')}").json()["state"] == "conflict"


def test_lost_bytes_are_a_clear_error(client: TestClient, bears: str) -> None:
    answer = client.get(f"{bears}/images/{sha('both')}/content")
    assert (answer.status_code, answer.json()["code"]) == (404, "missing_bytes")


def test_a_class_is_renamed_and_keeps_its_id(client: TestClient, bears: str) -> None:
    black, _ = client.get(f"{bears}/classes").json()["items"]
    path = f"{bears}/classes/{black['id']}"
    assert client.patch(path, json={"name": "black bear"}).json() == {**black, "name": "black bear"}
    assert len(_list(client, f"{bears}/images?label=black bear")) == 10
    taken = client.patch(path, json={"name": "grizzly"})
    assert (taken.status_code, taken.json()["code"]) == (409, "class_exists")
    assert client.patch(f"{bears}/classes/999999", json={"name": "x"}).status_code == 404
    for name in ("", " x", "x" * 300, None):
        assert client.patch(path, json={"name": name}).status_code == 422
    itself = client.post(f"{path}/merge", json={"into": black["id"]})
    assert (itself.status_code, itself.json()["code"]) == (409, "class_merged")


def test_merging_settles_conflicts_between_the_two(
    client: TestClient, bears: str, database: Database, store: FolderStore
) -> None:
    black, grizzly = client.get(f"{bears}/classes").json()["items"]
    client.post(f"{bears}/classes/{grizzly['id']}/merge", json={"into": black["id"]})
    assert _list(client, f"{bears}/images?state=conflict") == []
    assert len(_list(client, f"{bears}/images?label=black")) == 21
    client.post(f"{bears}/imports", json=URLS)
    Worker(database, store).answer([line(0, "late", "grizzly")])
    late = client.get(f"{bears}/images/{sha('late')}").json()
    assert late["class_name"] == "black", "the merged name means the class it became part of"


def test_the_profile_counts_classes_splits_and_sizes(client: TestClient, bears: str) -> None:
    client.post(f"{bears}/images/{sha('black 0')}/remove")
    client.post(f"{bears}/versions")
    profile = client.get(f"{bears}/profile").json()
    assert (profile["images"], profile["removed"], profile["conflicts"]) == (20, 1, 1)
    black, grizzly = profile["classes"]
    assert (black["name"], black["images"]) == ("black", 9)
    assert (grizzly["train"], grizzly["valid"], grizzly["unassigned"]) == (8, 2, 0)
    assert profile["width"] == {"min": 100, "median": 100, "max": 100}
    assert {b["up_to"]: b["images"] for b in profile["longer_side"] if b["images"]} == {128: 20}
    assert profile["formats"] == {"PNG": 20}
    assert profile["bytes"] > 20_000


def test_an_empty_dataset_has_a_profile(client: TestClient) -> None:
    profile = client.get(make_bears(client) + "/profile").json()
    assert (profile["images"], profile["width"], profile["classes"]) == (0, None, [])


def test_datasets_are_made_once_and_listed_by_name(client: TestClient) -> None:
    datasets = "/v1/projects/zoo/datasets"
    for name in ("pets", "bears"):
        made = client.post(datasets, json={"name": name, "valid_share": 0.1, "seed": 7})
        assert (made.status_code, made.json()["seed"]) == (201, 7)
    first = client.get(f"{datasets}?limit=1").json()
    assert [d["name"] for d in first["items"]] == ["bears"]
    rest = client.get(f"{datasets}?cursor={first['next']}").json()
    assert [d["name"] for d in rest["items"]] == ["pets"]
    twice = client.post(datasets, json={"name": "bears"})
    assert (twice.status_code, twice.json()["code"]) == (409, "dataset_exists")
    assert client.get(f"{datasets}/wolves").json()["code"] == "unknown_dataset"


def test_a_wrong_dataset_is_refused_with_its_field(client: TestClient) -> None:
    wrong: list[dict[str, object]] = [
        {"name": "../etc"},
        {"name": "a b"},
        {"name": "bears", "valid_share": 1},
        {"name": "bears", "valid_share": 0.6, "test_share": 0.4},
        {"name": "bears", "seed": -1},
        {"name": "bears", "colour": "brown"},
        {},
    ]
    for body in wrong:
        answer = client.post("/v1/projects/zoo/datasets", json=body)
        assert answer.status_code == 422, body
        assert answer.json()["field"].startswith("body"), body


def test_who_may_only_look_changes_nothing(
    client: TestClient, bears: str, callers: Callable[[str], TestClient]
) -> None:
    looking = callers("reviewer")
    assert looking.get(f"{bears}/images").status_code == 200
    image = f"{bears}/images/{sha('both')}"
    for answer in (
        looking.post("/v1/projects/zoo/datasets", json={"name": "mine"}),
        looking.post(f"{image}/label", json={"class": "black"}),
        looking.post(f"{image}/remove"),
        looking.post(f"{bears}/versions"),
        looking.post(f"{bears}/imports", json=URLS),
        looking.post(f"{bears}/uploads", content=b"x"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_text_that_no_database_keeps_is_no_500(client: TestClient, bears: str) -> None:
    for text in (r"nul\u0000", r"\ud800"):
        answer = client.post(
            f"{bears}/images/{sha('both')}/label",
            content=f'{{"class": "black", "reason": "{text}"}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, text
    assert client.get(f"{bears}/images", params={"label": "\0"}).status_code in (404, 422)
    assert client.get("/v1/projects/zoo/datasets/%00/images").status_code in (404, 422)


def _list(client: TestClient, path: str) -> list[dict[str, object]]:
    """All items of all pages."""
    items: list[dict[str, object]] = []
    after = ""
    while True:
        page = client.get(path + after)
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        if page.json()["next"] is None:
            return items
        after = f"{'&' if '?' in path else '?'}cursor={page.json()['next']}"
