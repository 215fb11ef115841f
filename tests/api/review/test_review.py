"""Reviews, claims and decisions over REST."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.database import Database
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Seen, Trained, sha, train
from tests.api.review.reviewing import (
    REVIEW,
    claim,
    decide,
    decide_all,
    expire,
    get,
    names,
    post,
    said,
)

Callers = Callable[[str], TestClient]
REVIEWS = "/v1/projects/zoo/reviews"
SCREEN = "00000000-0000-0000-0000-000000000000"
LOOKS = ("", "/progress", "/decisions")
POSTS = (
    ("", "trainer", {"run": 1}),
    ("/1/claim", "reviewer", None),
    (f"/1/screens/{SCREEN}/decisions", "reviewer", {"decisions": [said(sha("a"), "keep")]}),
    ("/1/undo", "reviewer", None),
    ("/1/release", "reviewer", None),
    ("/1/close", "trainer", None),
)
BELOW = {"reviewer": "viewer", "trainer": "reviewer"}


def test_anonymous(client: TestClient, review: dict[str, Any]) -> None:
    client.headers.pop("Authorization")
    for path in LOOKS:
        assert client.get(f"{REVIEW}{path}").status_code == 401, path
    for path, _, body in POSTS:
        assert client.post(f"{REVIEWS}{path}", json=body).status_code == 401, path


def test_each_verb_takes_its_role(callers: Callers, review: dict[str, Any]) -> None:
    for path, role, body in POSTS:
        address = f"{REVIEWS}{path}"
        assert callers("stranger").post(address, json=body).status_code == 404, path
        assert callers(BELOW[role]).post(address, json=body).status_code == 403, path
        assert callers(role).post(address, json=body).status_code not in (401, 403), path


def test_a_viewer_may_look(callers: Callers, review: dict[str, Any]) -> None:
    for path in LOOKS:
        assert callers("viewer").get(f"{REVIEW}{path}").status_code == 200, path


class TestCreate:
    def test_the_queue_holds_the_reports_images(self, review: dict[str, Any]) -> None:
        assert (review["number"], review["run"], review["version"]) == (1, 1, 1)
        assert (review["state"], review["images"], review["decided"]) == ("open", 12, 0)
        assert (review["order"], review["screen_size"]) == ("label_issue", 5)

    def test_conflicts_come_first_then_doubt(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        images = [
            Seen("low", 0, 0, label_issue=0.1),
            Seen("high", 1, 0, label_issue=0.9, split="train"),
            Seen("conflict", None, 0, split="train"),
        ]
        train(database, store, project, images)
        client.post(REVIEWS, json={"run": 1})
        assert names(claim(client)) == ["conflict", "high", "low"]

    def test_by_loss_valid_comes_before_train_and_test(
        self, client: TestClient, trained: Trained
    ) -> None:
        client.post(REVIEWS, json={"run": 1, "order": "loss", "screen_size": 12})
        images = claim(client)["images"]
        assert [image["split"] for image in images] == ["valid"] * 5 + ["train"] * 5 + ["test"] * 2
        losses = [image["loss"] for image in images[:5]]
        assert losses == sorted(losses, reverse=True)

    def test_splits_and_limit_narrow_it(self, client: TestClient, trained: Trained) -> None:
        body = {"run": 1, "splits": ["test", "train"], "limit": 3}
        assert client.post(REVIEWS, json=body).json()["images"] == 3
        assert {image["split"] for image in claim(client)["images"]} <= {"test", "train"}

    def test_a_run_without_report_or_a_split_without_images_is_refused(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        train(database, store, project, [Seen("a", 0, 0)])
        assert client.post(REVIEWS, json={"run": 9}).json()["code"] == "unknown_run"
        refused = client.post(REVIEWS, json={"run": 1, "splits": ["test"]})
        assert refused.json()["code"] == "nothing_to_review"
        assert client.get(REVIEWS).json()["items"] == []

    def test_reviews_are_listed_newest_first(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        client.post(REVIEWS, json={"run": 1})
        page = client.get(f"{REVIEWS}?limit=1").json()
        assert [one["number"] for one in page["items"]] == [2]
        rest = client.get(f"{REVIEWS}?cursor={page['next']}").json()
        assert [one["number"] for one in rest["items"]] == [1]
        assert client.get(f"{REVIEWS}/7").json()["code"] == "unknown_review"


class TestClaim:
    def test_a_screen_shows_what_the_run_made_of_five_images(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        assert names(screen) == [f"i{at:05}" for at in range(5)]
        assert screen["choices"] == ["black", "grizzly", "teddy"]
        first = screen["images"][0]
        assert (first["label"], first["predicted"]) == ("black", "grizzly")
        assert first["p_label"] == pytest.approx(0.05)
        assert first["content"].endswith(f"/datasets/bears/images/{sha('i00000')}/content")
        assert first["decision"] is None

    def test_who_claims_again_gets_the_same_screen_with_a_longer_lease(
        self, client: TestClient, database: Database, review: dict[str, Any]
    ) -> None:
        first, second = claim(client), claim(client)
        assert first["screen"] == second["screen"]
        assert second["lease_until"] > first["lease_until"]
        assert get(client, "screen")["screen"] == first["screen"]

    def test_two_reviewers_get_different_images(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        one, other = claim(callers("reviewer")), claim(callers("trainer"))
        assert not set(names(one)) & set(names(other))
        last = claim(callers("promoter"))
        assert len(last["images"]) == 2
        empty = claim(callers("admin"))
        assert (empty["screen"], empty["images"]) == (None, [])

    def test_an_expired_lease_gives_undecided_images_to_the_next(
        self, callers: Callers, database: Database, review: dict[str, Any]
    ) -> None:
        slow, quick = callers("reviewer"), callers("trainer")
        screen = claim(slow)
        decide(slow, screen, {0: "keep"})
        expire(database)
        assert names(claim(quick)) == ["i00001", "i00002", "i00003", "i00004", "i00005"]
        assert get(slow, "screen")["images"] == []

    def test_who_comes_back_late_gets_what_is_still_free_of_their_images(
        self, callers: Callers, database: Database, review: dict[str, Any]
    ) -> None:
        other, late = callers("trainer"), callers("reviewer")
        claim(other)
        screen = claim(late)
        post(other, "release", status=204)
        expire(database)
        again = claim(late)
        assert again["screen"] != screen["screen"]
        assert names(again) == names(screen)

    def test_release_gives_the_images_back_at_once(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        one, other = callers("reviewer"), callers("trainer")
        screen = claim(one)
        post(one, "release", status=204)
        assert names(claim(other)) == names(screen)
        refused = decide(one, screen, {0: "keep"}, status=409)
        assert refused["code"] == "lease_expired"


class TestDecide:
    def test_decisions_stand_and_the_next_screen_follows(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        after = decide(client, screen, {0: "grizzly", 1: "keep", 2: "remove", 3: "unsure"})
        assert [image["decision"] for image in after["images"]] == [
            {"verb": "relabel", "class": "grizzly"},
            {"verb": "keep", "class": None},
            {"verb": "remove", "class": None},
            {"verb": "unsure", "class": None},
            None,
        ]
        assert claim(client)["screen"] == screen["screen"]
        decide(client, screen, {4: "keep"})
        assert names(claim(client))[0] == "i00005"

    def test_the_same_decision_again_changes_nothing(
        self, client: TestClient, database: Database, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        decide(client, screen, {0: "grizzly", 1: "keep"})
        decide(client, screen, {0: "grizzly", 1: "keep"})
        expire(database)
        decide(client, screen, {0: "grizzly"})
        assert len(get(client, "decisions")["items"]) == 2

    def test_another_decision_on_the_open_screen_replaces_the_first(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        decide(client, screen, {0: "keep"})
        decide(client, screen, {0: "remove"})
        first, second = get(client, "decisions")["items"]
        assert (first["verb"], second["verb"]) == ("keep", "remove")
        assert first["undone_at"] is not None
        assert second["undone_at"] is None
        assert get(client, "progress")["verbs"]["remove"] == 1

    def test_relabelling_to_the_label_that_it_has_is_keeping(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        after = decide(client, claim(client), {0: "black"})
        assert after["images"][0]["decision"]["verb"] == "keep"

    def test_an_expired_lease_loses_nothing_and_names_the_way_out(
        self, callers: Callers, database: Database, review: dict[str, Any]
    ) -> None:
        slow, quick = callers("reviewer"), callers("trainer")
        screen = claim(slow)
        decide(slow, screen, {0: "keep"})
        expire(database)
        all_of_it = {1: "keep", 2: "keep", 3: "remove", 4: "grizzly"}
        refused = decide(slow, screen, all_of_it, status=409)
        assert refused["code"] == "lease_expired"
        assert refused["value"]["free"] == [i["sha256"] for i in screen["images"][1:]]
        assert "claim" in refused["way_out"]
        taken = claim(quick)
        refused = decide(slow, screen, all_of_it, status=409)
        assert refused["value"]["taken"] == [i["sha256"] for i in screen["images"][1:]]
        assert len(get(slow, "decisions")["items"]) == 1
        decide(quick, taken, {0: "keep"})

    def test_a_class_that_is_none_is_refused_by_name(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        refused = decide(client, claim(client), {0: "keep", 1: "panda"}, status=422)
        assert refused["code"] == "unknown_choice"
        assert "black, grizzly, teddy" in refused["way_out"]
        assert get(client, "decisions")["items"] == []

    def test_an_image_beside_the_screen_is_refused_and_so_is_the_rest(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        client = callers("reviewer")
        mine, others = claim(client), claim(callers("trainer"))
        path = f"screens/{mine['screen']}/decisions"
        for sha256 in (sha("nothing"), others["images"][0]["sha256"]):
            body = {"decisions": [said(mine["images"][0]["sha256"], "keep"), said(sha256, "keep")]}
            assert post(client, path, body, status=422)["code"] == "not_on_screen"
        assert get(client, "decisions")["items"] == []

    def test_nobody_decides_on_another_ones_screen(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        screen = claim(callers("reviewer"))
        refused = decide(callers("trainer"), screen, {0: "keep"}, status=404)
        assert refused["code"] == "unknown_screen"

    @pytest.mark.parametrize(
        "decision",
        [{"verb": "keep", "class": "teddy"}, {"verb": "relabel"}],
        ids=["keep with a class", "relabel without one"],
    )
    def test_a_decision_that_contradicts_itself_is_refused(
        self, client: TestClient, review: dict[str, Any], decision: dict[str, str]
    ) -> None:
        screen = claim(client)
        body = {"decisions": [{"sha256": screen["images"][0]["sha256"], **decision}]}
        refused = post(client, f"screens/{screen['screen']}/decisions", body, status=422)
        assert refused["code"] == "bad_decision"
        twice = {"decisions": [said(screen["images"][0]["sha256"], "keep")] * 2}
        refused = post(client, f"screens/{screen['screen']}/decisions", twice, status=422)
        assert refused["code"] == "bad_decision"

    def test_a_conflict_has_no_label_to_keep(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        train(database, store, project, [Seen("a", None, 0), Seen("b", 0, 0)])
        client.post(REVIEWS, json={"run": 1})
        screen = claim(client)
        assert decide(client, screen, {0: "keep"}, status=422)["code"] == "bad_decision"
        decide(client, screen, {0: "teddy"})


class TestUndo:
    def test_the_last_decisions_are_taken_back_onto_the_screen(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        decide(client, screen, dict.fromkeys(range(5), "keep"))
        following = claim(client)
        undone = post(client, "undo")
        assert undone["screen"] == following["screen"]
        assert names(undone) == ["i00004", *names(following)]
        undone = post(client, "undo", {"count": 50})
        assert len(undone["images"]) == 10
        assert get(client, "progress")["decided"] == 0
        assert len(get(client, "decisions")["items"]) == 5
        assert post(client, "undo", status=409)["code"] == "nothing_to_undo"

    def test_nobody_undoes_what_another_one_decided(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        one = callers("reviewer")
        decide(one, claim(one), {0: "remove"})
        assert post(callers("trainer"), "undo", status=409)["code"] == "nothing_to_undo"

    def test_after_the_lease_the_undone_image_is_on_a_new_screen(
        self, client: TestClient, database: Database, review: dict[str, Any]
    ) -> None:
        screen = claim(client)
        decide(client, screen, {0: "remove"})
        expire(database)
        undone = post(client, "undo")
        assert names(undone) == ["i00000"]
        decide(client, undone, {0: "keep"})
        assert get(client, "progress")["verbs"]["keep"] == 1


class TestProgress:
    def test_it_counts_verbs_people_and_claims(
        self, callers: Callers, review: dict[str, Any]
    ) -> None:
        client = callers("reviewer")
        decide(client, claim(client), {0: "keep", 1: "remove", 2: "teddy", 3: "unsure"})
        claim(callers("trainer"))
        found = get(client, "progress")
        # The third is a teddy already: relabelling it so is keeping it.
        assert found["verbs"] == {"keep": 2, "relabel": 0, "remove": 1, "unsure": 1}
        assert (found["images"], found["decided"], found["left"], found["claimed"]) == (12, 4, 8, 6)
        assert found["reviewers"] == {"reviewer": 4}
        assert found["screens"] == []

    def test_a_couple_of_screens_that_all_look_right_are_the_end(
        self, client: TestClient, review: dict[str, Any]
    ) -> None:
        first = claim(client)
        decide(client, first, {0: "grizzly", 1: "keep", 2: "keep", 3: "keep", 4: "keep"})
        found = get(client, "progress")
        assert found["screens"][0]["wrong"] == 1
        assert not found["advice"]["stop"]
        decide(client, claim(client), dict.fromkeys(range(5), "keep"))
        assert not get(client, "progress")["advice"]["stop"]
        decide_all(client)
        found = get(client, "progress")
        assert [one["first_rank"] for one in found["screens"]] == [10, 5, 0]
        assert found["advice"]["stop"]
        assert found["advice"]["right_screens"] == 2
