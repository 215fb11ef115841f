"""What who runs the platform changes of a project."""

from collections.abc import Callable

from fastapi.testclient import TestClient

PATH = "/v1/projects/zoo"


def test_who_runs_the_platform_changes_what_members_may_name(
    callers: Callable[[str], TestClient],
) -> None:
    weights = ["s3://bucket/prefix/weights/"]
    assert callers("admin").patch(PATH, json={"allowed_sources": weights}).status_code == 403
    platform = callers("platform")
    changed = platform.patch(PATH, json={"allowed_sources": weights}).json()
    assert changed["allowed_sources"] == weights
    # What is absent stays.
    assert platform.patch(PATH, json={"gpu_quota": 8}).json()["allowed_sources"] == weights
    (shown,) = callers("viewer").get("/v1/projects").json()["items"]
    assert shown["allowed_sources"] == weights
    assert platform.patch(PATH, json={"allowed_sources": []}).json()["allowed_sources"] == []


def test_sources_that_are_no_list_of_prefixes_are_refused_by_both_routes(
    callers: Callable[[str], TestClient],
) -> None:
    platform = callers("platform")
    for wrong in (None, "s3://bucket/", [1]):
        for answer in (
            platform.patch(PATH, json={"allowed_sources": wrong}),
            platform.post("/v1/projects", json={"name": "den", "allowed_sources": wrong}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), wrong


def test_a_change_stands_in_the_record(callers: Callable[[str], TestClient]) -> None:
    callers("platform").patch(PATH, json={"allowed_sources": ["s3://bucket/"]})
    (event, *_) = callers("admin").get(f"{PATH}/audit").json()["items"]
    assert (event["actor"], event["action"]) == ("platform", "project.change")
    assert event["detail"] == {"allowed_sources": ["s3://bucket/"]}
