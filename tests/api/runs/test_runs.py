"""Runs over REST, and through the worker's steps on a cluster that does what the test says."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.database import Database
from api.jobs.mailbox import Mailbox
from api.jobs.reconcile import Workplace
from api.runs.kind import RunKind
from api.settings import Settings
from api.stores import below_project
from api.tables import Job, Project, Report, Run
from api.tracking import TrackingServer
from bearloop.contract.jobs import Problem, Result, result_key
from bearloop.contract.report import Metric, SplitFigures, Summary
from bearloop.contract.runs import Cost, Curves, RunOutput, RunSpec
from bearloop.store import FolderStore
from tests.api.runs.conftest import RUNS, Zoo, start
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, step, workplace
from tests.fixtures.mlflow_server import mlflow_server  # noqa: F401

ERROR = Metric(value=0.1, low=0.05, high=0.2, n=30)
COST = Cost(
    images_per_second=120.5,
    cpu_utilisation=0.75,
    gpu_utilisation=0.5,
    peak_memory=2**33,
    peak_gpu_memory=2**34,
    stages={"head": 2.0},
)


def refused(client: TestClient, **asked: object) -> dict[str, object]:
    answer = client.post(RUNS, json={"dataset": "bears", **asked})
    assert answer.status_code in (404, 422), answer.text
    return dict(answer.json())


class TestStarting:
    def test_a_run_is_queued_complete(
        self, client: TestClient, zoo: Zoo, database: Database
    ) -> None:
        answer = client.post(RUNS, json={"dataset": "bears", "version": 1, "seed": 7})
        assert (answer.status_code, answer.headers["location"]) == (202, f"{RUNS}/1")
        (run,) = answer.json()["items"]
        assert (run["number"], run["state"], run["recipe"]) == (1, "queued", "fine-tune")
        assert client.get(answer.headers["location"]).json() == run
        with database.transaction() as session:
            spec = RunSpec.model_validate(session.scalars(select(Job.spec)).one())
        assert (spec.seed, spec.device, spec.version_digest) == (7, "auto", "ab" * 32)
        assert [entry.name for entry in spec.classes] == ["black", "teddy"]

    def test_several_seeds_are_several_runs(self, client: TestClient, zoo: Zoo) -> None:
        answer = client.post(RUNS, json={"dataset": "bears", "seeds": 3, "seed": 5})
        items = answer.json()["items"]
        assert [(item["number"], item["seed"]) for item in items] == [(1, 5), (2, 6), (3, 7)]
        assert start(client)["number"] == 4

    def test_a_whole_recipe_may_be_given(self, client: TestClient, zoo: Zoo) -> None:
        items = client.get("/v1/projects/zoo/recipes").json()["items"]
        recipe = {**items[1]["recipe"], "name": "given"}
        assert start(client, recipe=recipe, epochs=1)["recipe"] == "given"

    def test_only_a_trainer_trains(self, callers: Callable[[str], TestClient], zoo: Zoo) -> None:
        asked = {"dataset": "bears"}
        assert callers("reviewer").post(RUNS, json=asked).status_code == 403
        assert callers("trainer").post(RUNS, json=asked).status_code == 202
        assert callers("viewer").get(f"{RUNS}/1").status_code == 200

    def test_what_is_not_there_is_named(self, client: TestClient, zoo: Zoo) -> None:
        assert refused(client, dataset="cats")["code"] == "unknown_dataset"
        assert refused(client, version=4)["code"] == "unknown_version"

    def test_a_class_without_valid_images_is_named(self, client: TestClient, zoo: Zoo) -> None:
        zoo.freeze(dataset="few", names=("black", "grizzly"), valid=0)
        problem = refused(client, dataset="few")
        assert (problem["code"], problem["field"]) == ("untrainable_version", "class")
        assert problem["value"] == "grizzly"

    def test_one_class_is_too_few(self, client: TestClient, zoo: Zoo) -> None:
        zoo.freeze(dataset="one", names=("black",))
        assert refused(client, dataset="one")["code"] == "untrainable_version"

    @pytest.mark.parametrize(
        ("weights", "code"),
        [
            ("file:///nowhere/resnet.pth", "no_such_weights"),
            ("resnet.pth", "wrong_recipe"),
            ("s3://elsewhere/resnet.pth", "forbidden_address"),
            ("file:///a/../b.pth", "bad_address"),
        ],
    )
    def test_weights_must_be_allowed_and_there(
        self, client: TestClient, zoo: Zoo, weights: str, code: str
    ) -> None:
        problem = refused(client, weights=weights)
        assert (problem["code"], problem["field"], problem["value"]) == (
            code,
            "recipe.weights",
            weights,
        )

    def test_weights_in_a_file_of_this_machine(
        self, client: TestClient, zoo: Zoo, tmp_path: Path
    ) -> None:
        path = tmp_path / "resnet18.safetensors"
        path.write_bytes(b"x")
        assert start(client, weights=path.as_uri())["weights"] == path.as_uri()


class TestLooking:
    def test_pages_go_from_the_newest_to_the_oldest(self, client: TestClient, zoo: Zoo) -> None:
        client.post(RUNS, json={"dataset": "bears", "seeds": 5})
        seen: list[int] = []
        cursor = {}
        for _ in range(3):
            page = client.get(RUNS, params={"limit": 2, **cursor}).json()
            seen += [item["number"] for item in page["items"]]
            cursor = {"cursor": page.get("next")}
        assert seen == [5, 4, 3, 2, 1]
        assert client.get(RUNS, params={"dataset": "cats"}).json()["items"] == []
        assert client.get(RUNS, params={"state": "done"}).json()["items"] == []

    def test_an_unknown_run_is_told(self, client: TestClient) -> None:
        paths = ("", "/spec", "/files", "/logs", "/curves", "/lr-finder", "/lr-finder.png")
        for path in (*paths, "/events"):
            answer = client.get(f"{RUNS}/9{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_run")
        assert client.post(f"{RUNS}/9/cancel").status_code == 404

    def test_what_a_run_was_told_runs_again_elsewhere(
        self, client: TestClient, zoo: Zoo, database: Database, store: FolderStore
    ) -> None:
        start(client, seed=7)
        answer = client.get(f"{RUNS}/1/spec")
        with database.transaction() as session:
            told = RunSpec.model_validate(session.scalars(select(Job.spec)).one())
        assert RunSpec.model_validate_json(answer.text) == told
        files = client.get(f"{RUNS}/1/files").json()
        assert files["spec"] == f"jobs/{told.job}/spec.json"
        assert files["manifest"] == told.manifest_key
        assert (files["curves"], files["steps"], files["report_loss"]) == (None, None, None)
        own = below_project(store, zoo.project.id).url
        assert files["store"] == own
        assert files["rerun"] == f"python -m trainer --spec spec.json --store {own}"

    def test_a_run_without_curves_says_so(self, client: TestClient, zoo: Zoo) -> None:
        start(client)
        answer = client.get(f"{RUNS}/1/curves")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_curves")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def desk(database: Database, store: FolderStore, project: Project) -> Desk:
    return Desk(database, store, project)


@pytest.fixture
def place(
    desk: Desk,
    cluster: FakeCluster,
    settings: Settings,
    mlflow_server: str,  # noqa: F811
) -> Workplace:
    kind = RunKind(desk.database, TrackingServer(mlflow_server))
    return workplace(desk, cluster, kind, settings=settings)


def go_on(place: Workplace, desk: Desk, steps: int = 4) -> None:
    for _ in range(steps):
        desk.make_due()
        step(place)


def job_of(desk: Desk, number: int = 1) -> UUID:
    with desk.database.transaction() as session:
        return session.scalars(select(Run.job_id).where(Run.number == number)).one()


def leave_result(desk: Desk, job: UUID) -> RunOutput:
    """Leave what a trainer leaves; its model is not logged."""
    figures = SplitFigures(
        images=30, error=ERROR, log_loss=0.3, tta_error=None, confusion=((14, 1), (2, 13))
    )
    output = RunOutput(
        device="cpu",
        seconds={"fit": 2.5},
        summary=Summary(classes=(1, 2), splits={"valid": figures}, conflicts=0),
        report_keys={"loss": "r/loss.parquet", "label_issue": "r/issue.parquet"},
        curves_key="r/curves.json",
        bundle_digest="cd" * 32,
        bundle_prefix="bundles/cd/",
        mlflow_model=None,
        cost=COST,
    )
    desk.mail.put("r/curves.json", Curves(epochs=(), steps=()).canonical())
    result = Result(job=str(job), attempt="a", outcome="done", output=output)
    desk.mail.put(result_key(str(job)), result.canonical())
    return output


class TestLiving:
    def test_a_run_ends_with_figures_report_and_its_place_in_mlflow(
        self, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        start(client)
        step(place)
        job = job_of(desk)
        assert cluster.requests[f"run-{job}-1"].environment["MLFLOW_TRACKING_URI"]
        assert desk.spec(job)["tracking"]["run_id"]
        output = leave_result(desk, job)
        cluster.finish(desk.name(job))
        go_on(place, desk)
        run = client.get(f"{RUNS}/1").json()
        assert (run["state"], run["device"], run["seconds"]) == ("done", "cpu", {"fit": 2.5})
        assert run["metrics"]["valid"]["error"] == ERROR.model_dump()
        assert run["cost"] == COST.model_dump()
        assert run["bundle_digest"] == output.bundle_digest
        assert "/#/experiments/" in run["mlflow_url"]
        assert run["mlflow_run_id"] == desk.spec(job)["tracking"]["run_id"]
        assert run["finished_at"]
        with desk.database.transaction() as session:
            report = session.scalars(select(Report)).one()
        assert report.summary == output.summary.model_dump(mode="json")
        drawn = {"epochs": [], "steps": [], "lr_finds": []}
        assert client.get(f"{RUNS}/1/curves").json() == drawn

    def test_an_input_at_fault_is_shown_with_the_way_out(
        self, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        start(client)
        step(place)
        problem = Problem(code="no_gpu", detail="none is visible", way_out="ask for cpu")
        desk.answer(job_of(desk), problem=problem)
        cluster.refuse(desk.name(job_of(desk)))
        go_on(place, desk)
        run = client.get(f"{RUNS}/1").json()
        assert (run["state"], run["problem"]["way_out"]) == ("failed", "ask for cpu")

    def test_a_run_is_cancelled_and_cannot_be_twice(
        self, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        start(client)
        step(place)
        cluster.begin(desk.name(job_of(desk)))
        answer = client.post(f"{RUNS}/1/cancel")
        assert (answer.status_code, answer.headers["location"]) == (202, f"{RUNS}/1")
        assert answer.json()["cancel_asked"]
        go_on(place, desk)
        assert client.get(f"{RUNS}/1").json()["state"] == "cancelled"
        again = client.post(f"{RUNS}/1/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "run_ended")

    def test_the_log_of_each_launch_is_kept(
        self, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        start(client)
        assert client.get(f"{RUNS}/1/logs").json() == {"launch": 0, "text": ""}
        step(place)
        job = job_of(desk)
        cluster.printed[desk.name(job)] = "out of memory"
        cluster.crash(desk.name(job))
        go_on(place, desk)
        assert Mailbox(below_project(desk.store, desk.project.id), str(job)).log(1)
        log = client.get(f"{RUNS}/1/logs", params={"launch": 1}).json()
        assert log == {"launch": 1, "text": "out of memory"}

    def test_events_tell_each_change_until_the_end(
        self, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        start(client)
        with client.stream("GET", f"{RUNS}/1/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            client.post(f"{RUNS}/1/cancel")
            go_on(place, desk)
            told = [line for line in answer.iter_lines() if line.startswith("data: ")]
        states = [json.loads(line.removeprefix("data: "))["state"] for line in told]
        assert states[-1] == "cancelled"

    def test_events_end_where_the_api_does_and_wait_for_no_run(
        self, app: FastAPI, client: TestClient, zoo: Zoo, place: Workplace, desk: Desk
    ) -> None:
        start(client)
        app.state.leaving.set()
        with ThreadPoolExecutor(1) as aside:
            try:
                told = aside.submit(client.get, f"{RUNS}/1/events").result(60).text
            finally:
                client.post(f"{RUNS}/1/cancel")
                go_on(place, desk)
        assert told.count("event: run\n") == 1
