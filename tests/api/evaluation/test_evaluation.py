"""What a run says of its images, asked over REST."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.database import Database
from api.tables import Class, Project
from bearloop.intervals import wilson
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Seen, Trained, add_run, bears, sha, train

RUN = "/v1/projects/zoo/runs/1"
PATHS = (
    f"{RUN}/report",
    f"{RUN}/confusion",
    f"{RUN}/most-confused",
    f"{RUN}/images",
    f"{RUN}/noise",
    f"{RUN}/diagnosis",
    f"{RUN}/spread",
    "/v1/projects/zoo/runs/compare?a=1&b=1",
)
IMAGES = (
    Seen("a", 0, 0),
    Seen("b", 0, 1, p_label=0.2, label_issue=0.8),
    Seen("c", 0, 1, p_label=0.1, label_issue=0.9),
    Seen("d", 1, 2, p_label=0.3, label_issue=0.7),
    Seen("e", 2, 2, split="train"),
    Seen("f", None, 1),
)


@pytest.fixture
def trained(database: Database, store: FolderStore, project: Project) -> Trained:
    return train(database, store, project, IMAGES)


def get(client: TestClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_anonymous(client: TestClient, trained: Trained) -> None:
    client.headers.pop("Authorization")
    for path in PATHS:
        assert client.get(path).status_code == 401, path


def test_a_viewer_may_look_and_a_stranger_learns_nothing(
    callers: Callable[[str], TestClient], trained: Trained
) -> None:
    for path in PATHS:
        assert callers("viewer").get(path).status_code == 200, path
        assert callers("stranger").get(path).status_code == 404, path


def test_a_run_without_a_report_says_so(
    client: TestClient, database: Database, trained: Trained
) -> None:
    with database.transaction() as session:
        session.execute(text("delete from report"))
    for path in PATHS:
        problem = client.get(path).json()
        assert problem["code"] == "no_report", path
        assert "poll" in problem["way_out"]
        other = path.replace("/1", "/9").replace("=1", "=9")
        assert client.get(other).json()["code"] == "unknown_run", path


class TestReport:
    def test_figures_come_with_their_intervals(self, client: TestClient, trained: Trained) -> None:
        report = get(client, f"{RUN}/report")
        assert report["classes"] == ["black", "grizzly", "teddy"]
        assert report["dataset"] == "bears"
        assert report["version"] == 1
        assert report["conflicts"] == 1
        error = report["splits"]["valid"]["error"]
        assert error["value"] == 0.75
        assert error["n"] == 4
        assert 0 < error["low"] < 0.75 < error["high"] < 1

    def test_a_valid_split_that_is_too_small_is_said(
        self, client: TestClient, database: Database, store: FolderStore, trained: Trained
    ) -> None:
        small = get(client, f"{RUN}/report")["too_small"]
        assert small["code"] == "valid_split_too_small"
        assert "are valid" in small["way_out"]
        many = tuple(Seen(f"m{at}", 0, int(at % 100 == 0)) for at in range(1000))
        add_run(database, store, replace(trained, images=many))
        assert get(client, "/v1/projects/zoo/runs/2/report")["too_small"] is None


class TestSpread:
    def test_seeds_of_one_recipe_lie_apart(
        self, client: TestClient, database: Database, store: FolderStore, trained: Trained
    ) -> None:
        for seed, wrong in ((8, 4), (9, 2), (9, 0)):
            seen = seen_with(wrong)
            add_run(database, store, replace(trained, images=seen), seed=seed)
        found = get(client, f"{RUN}/spread")
        # Seed 9 was trained twice: it is one seed all the same.
        assert [(one["run"], one["seed"]) for one in found["seeds"]] == [(1, 7), (2, 8), (3, 9)]
        assert [one["error"]["value"] for one in found["seeds"]] == [0.75, 0.4, 0.2]
        assert found["spread"]["mean"] == pytest.approx(0.45)
        assert (found["spread"]["least"], found["spread"]["most"]) == (0.2, 0.75)
        assert found["words"].startswith("3 seeds: 20.0% to 75.0%")

    def test_one_seed_tells_nothing(self, client: TestClient, trained: Trained) -> None:
        found = get(client, f"{RUN}/spread")
        assert (found["spread"], len(found["seeds"])) == (None, 1)
        assert "--seeds 5" in found["words"]

    def test_a_split_without_images_is_refused(self, client: TestClient, trained: Trained) -> None:
        assert client.get(f"{RUN}/spread?split=test").json()["code"] == "empty_split"


class TestDiagnosis:
    def test_what_went_wrong_comes_with_evidence_and_way_out(
        self, client: TestClient, trained: Trained
    ) -> None:
        findings = get(client, f"{RUN}/diagnosis")["findings"]
        assert [one["code"] for one in findings] == ["too_few_epochs", "valid_split_too_small"]
        assert findings[0]["epochs"] == 3
        assert "1.2" in findings[0]["evidence"]
        assert "of 4 valid images" in findings[1]["evidence"]
        assert all(one["way_out"] for one in findings)

    def test_a_run_without_curves_says_so(
        self, client: TestClient, database: Database, trained: Trained
    ) -> None:
        with database.transaction() as session:
            session.execute(text("update run set curves_key = null"))
        assert client.get(f"{RUN}/diagnosis").json()["code"] == "no_curves"


class TestConfusion:
    def test_the_matrix_is_in_class_order(self, client: TestClient, trained: Trained) -> None:
        found = get(client, f"{RUN}/confusion?split=valid")
        assert found["matrix"] == [[1, 2, 0], [0, 0, 1], [0, 0, 0]]
        assert get(client, f"{RUN}/confusion")["split"] == "valid"

    def test_a_split_without_images_names_those_there_are(
        self, client: TestClient, trained: Trained
    ) -> None:
        problem = client.get(f"{RUN}/confusion?split=test").json()
        assert problem["code"] == "empty_split"
        assert "valid, train" in problem["way_out"]

    def test_most_confused_lists_pairs_from_the_most_frequent(
        self, client: TestClient, trained: Trained
    ) -> None:
        assert get(client, f"{RUN}/most-confused")["pairs"] == [
            {
                "label": "black",
                "predicted": "grizzly",
                "count": 2,
                "share": wilson(2, 3).model_dump(),
            },
            {
                "label": "grizzly",
                "predicted": "teddy",
                "count": 1,
                "share": wilson(1, 1).model_dump(),
            },
        ]
        assert len(get(client, f"{RUN}/most-confused?min=2")["pairs"]) == 1
        assert client.get(f"{RUN}/most-confused?min=0").status_code == 422


class TestImages:
    def test_the_most_doubtful_labels_come_first_conflicts_before_them(
        self, client: TestClient, trained: Trained
    ) -> None:
        items = get(client, f"{RUN}/images")["items"]
        assert [one["sha256"] for one in items[:4]] == [sha(name) for name in "fcbd"]
        assert items[0]["label"] is None
        assert items[1]["label"] == "black"
        assert items[1]["predicted"] == "grizzly"
        assert items[1]["thumbnail"].endswith(f"/datasets/bears/images/{sha('c')}/thumbnail")

    def test_pages_follow_each_other_without_gap_or_repeat(
        self, client: TestClient, trained: Trained
    ) -> None:
        seen, cursor = [], ""
        while cursor is not None:
            page = get(client, f"{RUN}/images?order=loss&limit=2{cursor and f'&cursor={cursor}'}")
            seen += [one["rank"] for one in page["items"]]
            cursor = page.get("next")
        assert seen == list(range(6))

    def test_a_split_is_listed_alone(self, client: TestClient, trained: Trained) -> None:
        items = get(client, f"{RUN}/images?split=train")["items"]
        assert [one["sha256"] for one in items] == [sha("e")]

    def test_a_cursor_of_another_list_is_refused(
        self, client: TestClient, trained: Trained
    ) -> None:
        assert client.get(f"{RUN}/images?cursor=zz").json()["code"] == "bad_cursor"


class TestLongReport:
    def test_pages_of_one_split_cross_row_groups(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        images = bears(2600)
        train(database, store, project, images)
        for order in ("loss", "label_issue"):
            for split in ("valid", "train", "test"):
                seen, cursor = [], ""
                while cursor is not None:
                    more = cursor and f"&cursor={cursor}"
                    path = f"{RUN}/images?order={order}&split={split}&limit=1000{more}"
                    page = get(client, path)
                    seen += [one["sha256"] for one in page["items"]]
                    cursor = page.get("next")
                assert len(seen) == len(set(seen))
                assert set(seen) == {one.sha256 for one in images if one.split == split}


class TestNoise:
    def test_each_class_tells_its_wrong_share_and_where_it_leaks(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        good = [Seen(f"g{at}", at % 3, at % 3) for at in range(60)]
        leaks = [Seen(f"w{at}", 0, 1, p_label=0.02) for at in range(10)]
        train(database, store, project, [*good, *leaks])
        black, grizzly, _ = get(client, f"{RUN}/noise")["classes"]
        assert black["shape"] == "biased"
        assert black["wrong"]["value"] == pytest.approx(10 / 30)
        assert black["leaks"] == [{"to": "grizzly", "images": 10, "share": pytest.approx(1 / 3)}]
        assert grizzly["shape"] == "clean"


def seen_with(wrong: int) -> tuple[Seen, ...]:
    """Ten valid images, so many of them predicted wrongly."""
    return tuple(Seen(f"s{at}", 0, int(at < wrong)) for at in range(10))


class TestComparison:
    def test_a_difference_that_seeds_make_is_called_so(
        self, client: TestClient, database: Database, store: FolderStore, trained: Trained
    ) -> None:
        for seed, wrong in ((8, 5), (9, 2)):
            add_run(database, store, replace(trained, images=seen_with(wrong)), seed=seed)
        verdict = get(client, "/v1/projects/zoo/runs/compare?a=2&b=3")["verdict"]
        assert verdict["code"] == "inside_spread"
        assert "lies inside the spread of the seeds" in verdict["words"]

    def test_two_runs_are_compared_on_the_same_images(
        self, client: TestClient, database: Database, store: FolderStore, trained: Trained
    ) -> None:
        # b has an image removed, one relabelled as a had predicted it, and one fixed.
        later = (
            replace(IMAGES[0]),
            replace(IMAGES[1], label=1),
            replace(IMAGES[3], predicted=1),
            *IMAGES[4:],
        )
        add_run(database, store, replace(trained, images=later))
        found = get(client, "/v1/projects/zoo/runs/compare?a=1&b=2")
        assert (found["split"], found["images"], found["relabelled"]) == ("valid", 3, 1)
        assert (found["only_a"], found["only_b"]) == (1, 0)
        old, cleaned = found["old_labels"], found["cleaned_labels"]
        assert old["error_a"]["value"] == pytest.approx(2 / 3)
        assert old["error_b"]["value"] == pytest.approx(1 / 3)
        assert cleaned["error_a"]["value"] == pytest.approx(1 / 3)
        assert cleaned["error_b"]["value"] == 0
        assert cleaned["difference"]["value"] == pytest.approx(-1 / 3)
        assert (cleaned["fixed"], cleaned["broken"], cleaned["p"]) == (1, 0, 1.0)
        assert [flip["sha256"] for flip in found["fixed"]] == [sha("d")]
        assert found["fixed"][0]["predicted_a"] == "teddy"
        assert [change["label"] for change in cleaned["classes"]] == ["black", "grizzly"]

    def test_a_merged_class_counts_as_the_one_that_it_is_part_of(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        apart = [Seen(f"s{at}", label=at % 3, predicted=at % 3) for at in range(6)]
        trained = train(database, store, project, apart)
        with database.transaction() as session:
            session.get_one(Class, trained.classes[2]).merged_into = trained.classes[1]
        together = (
            *(replace(one, label=min(one.label or 0, 1), predicted=0) for one in apart[:3]),
            *(replace(one, label=min(one.label or 0, 1), predicted=1) for one in apart[3:]),
        )
        add_run(database, store, replace(trained, images=together))
        found = get(client, "/v1/projects/zoo/runs/compare?a=1&b=2")
        assert found["relabelled"] == 0
        for labels in (found["old_labels"], found["cleaned_labels"]):
            assert (labels["error_a"]["value"], labels["broken"]) == (0, 3)
            assert [change["label"] for change in labels["classes"]] == ["black", "grizzly"]

    def test_the_test_split_is_preferred_when_both_have_it(
        self, client: TestClient, database: Database, store: FolderStore, project: Project
    ) -> None:
        trained = train(database, store, project, [*IMAGES, Seen("t", 0, 0, split="test")])
        add_run(database, store, trained)
        assert get(client, "/v1/projects/zoo/runs/compare?a=1&b=2")["split"] == "test"

    def test_runs_that_share_no_measured_image_are_refused(
        self, client: TestClient, database: Database, store: FolderStore, trained: Trained
    ) -> None:
        other = tuple(replace(one, name=f"{one.name}2") for one in IMAGES)
        add_run(database, store, replace(trained, images=other))
        problem = client.get("/v1/projects/zoo/runs/compare?a=1&b=2").json()
        assert problem["code"] == "not_comparable"
