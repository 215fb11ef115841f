"""MLflow at `/mlflow`: a real server, two projects, and who may see what."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.access import COOKIE
from api.database import Database
from api.runs.tracking_reads import PAGES, READS
from api.settings import Settings
from api.tables import Membership, Project
from tests.api.runs.tracked import Tracked
from tests.fixtures.mlflow_server import mlflow_server  # noqa: F401

Callers = Callable[[str], TestClient]
AJAX = "/mlflow/ajax-api/2.0/mlflow"
TELEMETRY = "/ajax-api/3.0/mlflow/ui-telemetry"
GET_RUN = """query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.Tracking") {
  mlflowGetRun(input: $data) {
    run { info { runUuid status } experiment { name } data { metrics { key value } } }
  }
}"""
SEARCH_RUNS = """query SearchRuns($data: MlflowSearchRunsInput!) {
  mlflowSearchRuns(input: $data) { runs { info { runUuid } } }
}"""


@pytest.fixture
def settings(settings: Settings, mlflow_server: str) -> Settings:  # noqa: F811
    return settings.model_copy(update={"tracking_url": mlflow_server})


@pytest.fixture
def zoo(database: Database, project: Project, settings: Settings, tmp_path: Path) -> Tracked:
    """The project whose members ask."""
    return Tracked(database, settings.tracking_url, "zoo", folder=tmp_path / "of-zoo")


@pytest.fixture
def other(database: Database, project: Project, settings: Settings, tmp_path: Path) -> Tracked:
    """A project that they are no members of."""
    with database.transaction() as session:
        farm = Project(name="farm")
        session.add(farm)
        session.flush()
        session.add(Membership(project_id=farm.id, subject="farmer", role="viewer"))
    return Tracked(database, settings.tracking_url, "farm", folder=tmp_path / "of-farm")


@pytest.fixture
def viewer(callers: Callers) -> TestClient:
    return callers("viewer")


def reads_of(tracked: Tracked) -> dict[str, dict[str, Any]]:
    """One request for every read of the list, about this project."""
    run, experiment, model = tracked.run, tracked.experiment, tracked.model
    version = {"name": model, "version": tracked.version}
    return {
        "GET 2.0/experiments/get": {"experiment_id": experiment},
        "POST 2.0/experiments/search-datasets": {"experiment_ids": [experiment]},
        "POST 2.0/runs/search": {"experiment_ids": [experiment], "max_results": 5},
        "GET 2.0/runs/get": {"run_id": run},
        "GET 2.0/metrics/get-history": {"run_id": run, "metric_key": "loss"},
        "GET 2.0/metrics/get-history-bulk": {"run_id": [run], "metric_key": "loss"},
        "GET 2.0/metrics/get-history-bulk-interval": {"run_ids": [run], "metric_key": "loss"},
        "GET 2.0/artifacts/list": {"run_id": run, "path": "model"},
        "POST 2.0/logged-models/search": {"experiment_ids": [experiment]},
        "GET 2.0/registered-models/get": {"name": model},
        "GET 2.0/registered-models/get-latest-versions": {"name": model},
        "POST 2.0/registered-models/get-latest-versions": {"name": model},
        "GET 2.0/model-versions/get": version,
        "GET 2.0/model-versions/get-download-uri": version,
    }


def ask(client: TestClient, read: str, given: dict[str, Any], *, api: str = "ajax-api") -> Any:
    """Send one read."""
    method, path = read.split(" ")
    version, path = path.split("/", 1)
    address = f"/mlflow/{api}/{version}/mlflow/{path}"
    return (
        client.get(address, params=given) if method == "GET" else client.post(address, json=given)
    )


def test_a_member_reads_what_its_project_tracked(viewer: TestClient, zoo: Tracked) -> None:
    for read, given in reads_of(zoo).items():
        for api in ("ajax-api", "api") if "bulk" not in read and "datasets" not in read else ():
            answer = ask(viewer, read, given, api=api)
            assert answer.status_code == 200, (read, answer.text)
        assert ask(viewer, read, given).status_code == 200, read
    run = ask(viewer, "GET 2.0/runs/get", {"run_id": zoo.run}).json()["run"]
    assert run["info"]["run_id"] == zoo.run
    points = ask(
        viewer,
        "GET 2.0/metrics/get-history-bulk-interval",
        {"run_ids": [zoo.run], "metric_key": "loss"},
    ).json()["metrics"]
    assert [point["step"] for point in points] == [0, 1, 2, 3, 4]


def test_another_project_s_are_not_there(
    viewer: TestClient, callers: Callers, zoo: Tracked, other: Tracked
) -> None:
    for read, given in reads_of(other).items():
        answer = ask(viewer, read, given)
        assert answer.status_code == 404, (read, answer.text)
        assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
        assert ask(callers("farmer"), read, given).status_code == 200, read
        assert ask(callers("platform"), read, given).status_code == 200, read


def test_one_foreign_id_among_own_ones_is_enough(
    viewer: TestClient, zoo: Tracked, other: Tracked
) -> None:
    both = [zoo.experiment, other.experiment]
    assert ask(viewer, "POST 2.0/runs/search", {"experiment_ids": both}).status_code == 404
    two = {"run_id": zoo.run, "run_uuid": other.run}
    assert ask(viewer, "GET 2.0/runs/get", two).status_code == 404
    bulk = {"run_ids": [zoo.run, other.run], "metric_key": "loss"}
    found = ask(viewer, "GET 2.0/metrics/get-history-bulk-interval", bulk)
    assert found.status_code == 404


def test_listings_hold_only_one_s_own(
    viewer: TestClient, callers: Callers, zoo: Tracked, other: Tracked
) -> None:
    for read in ("POST 2.0/experiments/search", "GET 2.0/experiments/search"):
        found = ask(viewer, read, {"max_results": 1})
        assert [row["experiment_id"] for row in found.json()["experiments"]] == [zoo.experiment]
    models = ask(viewer, "GET 2.0/registered-models/search", {}).json()["registered_models"]
    assert [row["name"] for row in models] == ["zoo.bears"]
    versions = ask(viewer, "GET 2.0/model-versions/search", {}).json()["model_versions"]
    assert {row["name"] for row in versions} == {"zoo.bears"}
    wanted = {"filter": f"run_id = '{other.run}'"}
    assert ask(viewer, "GET 2.0/model-versions/search", wanted).json()["model_versions"] == []
    everybody = ask(callers("platform"), "GET 2.0/registered-models/search", {}).json()
    assert {"zoo.bears", "farm.bears"} <= {row["name"] for row in everybody["registered_models"]}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"experiment_ids": []},
        {"experimentIds": ["0"]},
        {"experiment_ids": [0]},
        {"experiment_ids": [{"a": 1}]},
        {"experiment_ids": ["1"], "experimentIds": ["0"]},
    ],
)
def test_a_search_that_names_no_experiment_or_by_another_spelling_is_refused(
    viewer: TestClient, zoo: Tracked, given: dict[str, Any]
) -> None:
    answer = ask(viewer, "POST 2.0/runs/search", given)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_graphql_follows_the_same_rules(viewer: TestClient, zoo: Tracked, other: Tracked) -> None:
    def query(text: str, **variables: Any) -> Any:
        return viewer.post("/mlflow/graphql", json={"query": text, "variables": variables})

    own = query(GET_RUN, data={"runId": zoo.run}).json()["data"]["mlflowGetRun"]["run"]
    assert own["info"]["runUuid"] == zoo.run
    assert own["experiment"]["name"] == "zoo"
    runs = query(SEARCH_RUNS, data={"experimentIds": [zoo.experiment]}).json()["data"]
    assert zoo.run in {run["info"]["runUuid"] for run in runs["mlflowSearchRuns"]["runs"]}
    foreign = (
        f'{{ mlflowGetRun(input: {{runId: "{other.run}"}}) {{ run {{ info {{ status }} }} }} }}'
    )
    default = GET_RUN.replace("Input!", f'Input = {{runId: "{other.run}"}}')
    hidden = foreign.replace("mlflowGetRun", f'mlflowGetRun(input: {{runId: "{zoo.run}"}}) a: x', 1)
    for text, variables in (
        (GET_RUN, {"data": {"runId": other.run}}),
        (GET_RUN, {"data": {"runId": zoo.run, "runUuid": other.run}}),
        (SEARCH_RUNS, {"data": {"experimentIds": [other.experiment]}}),
        (SEARCH_RUNS, {"data": {}}),
        (foreign, {}),
        (default, {}),
        (hidden, {}),
        ("{ __schema { types { name } } }", {}),
        ('{ test(inputString: "x") { output } }', {}),
        ('mutation { testMutation(inputString: "x") { output } }', {}),
        ("query { ...all } fragment all on Query { __typename }", {}),
        ("not graphql", {}),
    ):
        assert query(text, **variables).status_code in (400, 404, 405), text


def mlflow_routes() -> list[tuple[str, str]]:
    """Every method and path that this version of MLflow's server answers, ids filled in."""
    program = (
        "from mlflow.server import app\n"
        "for rule in app.url_map.iter_rules():\n"
        "    for method in rule.methods: print(method, rule.rule)"
    )
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    pairs = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return [(method, re.sub("<.*?>", "1", path)) for method, path in pairs]


def test_no_write_and_nothing_unlisted_of_mlflow_s_gets_through(
    callers: Callers, zoo: Tracked
) -> None:
    platform = callers("platform")
    listed = {(read.split(" ")[0], read.split(" ")[1].split("/", 1)[1]) for read in READS}
    routes = mlflow_routes()
    assert len(routes) > 200
    tried = 0
    for method, path in routes:
        name = re.sub(r"^/(ajax-)?api/[23]\.0/mlflow/", "", path)
        is_page = path.strip("/") in (*PAGES, "", "health", "version") or "static" in path
        if method in ("HEAD", "OPTIONS") or (method, name) in listed or is_page:
            continue
        if (method, path) in (("POST", "/graphql"), ("GET", TELEMETRY)):
            continue
        tried += 1
        given = {"run_id": zoo.run, "experiment_id": zoo.experiment, "name": zoo.model}
        body = None if method == "GET" else given
        answer = platform.request(method, f"/mlflow{path}", json=body)
        assert answer.status_code == 405, (method, path, answer.text)
    assert tried > 150


def test_files_of_a_run_are_shown_and_cannot_act(
    viewer: TestClient, zoo: Tracked, other: Tracked
) -> None:
    page = viewer.get("/mlflow/get-artifact", params={"run_uuid": zoo.run, "path": "page.html"})
    assert page.text == "<script>alert(1)</script>"
    assert page.headers["content-security-policy"].startswith("sandbox;")
    assert "attachment" in page.headers["content-disposition"]
    asked = {"name": zoo.model, "version": zoo.version, "path": "MLmodel"}
    # MLflow itself answers 500 to this one while it keeps the files of `runs:/` behind itself.
    assert viewer.get("/mlflow/model-versions/get-artifact", params=asked).status_code in (200, 500)
    asked["name"] = other.model
    assert viewer.get("/mlflow/model-versions/get-artifact", params=asked).status_code == 404
    for given in (
        {"run_uuid": other.run, "path": "page.html"},
        {"run_uuid": zoo.run, "path": "../../1/page.html"},
        {"run_uuid": zoo.run, "path": "/etc/passwd"},
        {"run_uuid": zoo.run, "path": "%2e%2e/x"},
        {"run_uuid": zoo.run, "path": "file:///etc/passwd"},
        {"path": "page.html"},
    ):
        assert viewer.get("/mlflow/get-artifact", params=given).status_code in (400, 404), given


def test_a_browser_signs_in_on_the_review_page_s_form(
    app: FastAPI, callers: Callers, zoo: Tracked
) -> None:
    token = callers("viewer").headers["Authorization"].removeprefix("Bearer ")
    browser = TestClient(app, headers={"Accept": "text/html", "Origin": "http://testserver"})
    sent = browser.get("/mlflow/", follow_redirects=False)
    assert sent.headers["location"] == "/review/sign-in?to=/mlflow/"
    form = {"token": token, "to": "/mlflow/"}
    signed = browser.post("/review/sign-in", data=form, follow_redirects=False)
    assert signed.headers["location"] == "/mlflow/"
    assert COOKIE in browser.cookies
    page = browser.get("/mlflow/")
    script = re.search(r'src="(static-files/[^"]+\.js)"', page.text)
    assert script is not None
    loaded = browser.get(f"/mlflow/{script[1]}")
    assert loaded.status_code == 200
    assert "javascript" in loaded.headers["content-type"]
    assert "connect-src 'self'" in page.headers["content-security-policy"]


def test_the_pages_are_told_to_send_their_makers_nothing(viewer: TestClient) -> None:
    assert viewer.get(f"/mlflow{TELEMETRY}").json() == {"disable_telemetry": True}


def test_nobody_is_told_to_sign_in(app: FastAPI, callers: Callers, zoo: Tracked) -> None:
    nobody = TestClient(app)
    answer = nobody.post(f"{AJAX}/runs/search", json={"experiment_ids": [zoo.experiment]})
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "UNAUTHENTICATED"
    assert nobody.get("/mlflow/static-files/favicon.ico").status_code == 401


def test_an_mlflow_that_is_away_is_said_to_be(viewer: TestClient, app: FastAPI) -> None:
    from api.runs.tracking_pages import open_mlflow

    with open_mlflow(
        app.state.settings.model_copy(update={"tracking_url": "http://127.0.0.1:9"})
    ) as gone:
        app.state.mlflow, before = gone, app.state.mlflow
        answer = viewer.get("/mlflow/")
        app.state.mlflow = before
    assert answer.status_code == 503
    assert "does not answer just now" in answer.json()["message"]
