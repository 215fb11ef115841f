"""MLflow in a cluster: members see their runs at the API's /mlflow, nobody else sees or writes."""

import re
from collections.abc import Iterator

import httpx
import pytest

from bearloop.client import Client
from bearloop.client.views import RunView
from tests.cluster.rig import Release

GET_RUN = """query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.Tracking") {
  mlflowGetRun(input: $data) {
    run { info { runUuid } experiment { name } data { metrics { key value } } }
  }
}"""
"""As the page of a run asks."""
HEALTH = """
import sys, urllib.request
for host in sys.argv[1:]:
    print(host, urllib.request.urlopen(f"http://{host}:5000/version", timeout=30).status)
"""


@pytest.fixture
def run_view(client: Client, two_runs: list[int]) -> RunView:
    return client.runs.get(two_runs[0])


@pytest.fixture
def member(release: Release, client: Client) -> Iterator[httpx.Client]:
    """A viewer of the project."""
    client.connection.put("/v1/projects/main/members/watcher", {"role": "viewer"})
    with browser(release, client, "watcher") as opened:
        yield opened


@pytest.fixture
def stranger(release: Release, client: Client) -> Iterator[httpx.Client]:
    """Somebody with a token, and no project."""
    with browser(release, client, "stranger") as opened:
        yield opened


def test_a_member_sees_the_page_of_a_run(member: httpx.Client, run_view: RunView) -> None:
    page = member.get("/mlflow/")
    assert page.headers["content-type"].startswith("text/html")
    files = re.findall(r'(?:src|href)="(static-files/[^"]+)"', page.text)
    assert any(file.endswith(".js") for file in files)
    for file in files:
        assert member.get(f"/mlflow/{file}").status_code == 200, file

    asked = {"query": GET_RUN, "variables": {"data": {"runId": run_view.mlflow_run_id}}}
    answer = member.post("/mlflow/graphql", json=asked).json()["data"]["mlflowGetRun"]["run"]
    assert answer["info"]["runUuid"] == run_view.mlflow_run_id
    assert answer["experiment"]["name"] == "main"
    curve = next(m["key"] for m in answer["data"]["metrics"] if m["key"].startswith("step/"))
    reads = {
        "metrics/get-history-bulk-interval": {
            "run_ids": [run_view.mlflow_run_id],
            "metric_key": curve,
        },
        "artifacts/list": {"run_id": run_view.mlflow_run_id},
    }
    answers = {
        read: member.get(f"/mlflow/ajax-api/2.0/mlflow/{read}", params=given).json()
        for read, given in reads.items()
    }
    assert len(answers["metrics/get-history-bulk-interval"]["metrics"]) > 1
    assert answers["artifacts/list"]["files"]


def test_who_is_no_member_sees_nothing(
    release: Release, stranger: httpx.Client, run_view: RunView
) -> None:
    given = {"run_id": run_view.mlflow_run_id}
    read = "/mlflow/ajax-api/2.0/mlflow/runs/get"
    assert stranger.get(read, params=given).status_code == 404
    searched = stranger.post("/mlflow/ajax-api/2.0/mlflow/experiments/search", json={})
    assert searched.json().get("experiments", []) == []
    assert httpx.get(f"{release.url}{read}", params=given).status_code == 401


def test_nobody_writes(release: Release, member: httpx.Client, run_view: RunView) -> None:
    tag = {"run_id": run_view.mlflow_run_id, "key": "mine", "value": "now"}
    for write, given in (
        ("runs/set-tag", tag),
        ("runs/delete", {"run_id": run_view.mlflow_run_id}),
        ("experiments/create", {"name": "mine"}),
    ):
        for api in ("ajax-api", "api"):
            answer = member.post(f"/mlflow/{api}/2.0/mlflow/{write}", json=given)
            assert answer.status_code == 405, (write, answer.text)
    admin = httpx.post(
        f"{release.url}/mlflow/api/2.0/mlflow/runs/set-tag",
        json=tag,
        headers={"Authorization": f"Bearer {release.token}"},
    )
    assert admin.status_code == 405, "the platform's token neither"


def test_mlflow_answers_to_all_its_names_in_the_cluster(release: Release) -> None:
    service = f"{release.name}-bearloop-mlflow"
    namespace = release.namespace.name
    endings = ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local")
    hosts = [service + ending for ending in endings]
    worker = f"deployment/{release.name}-bearloop-worker"
    words = ("exec", worker, "-c", "worker", "--", "python", "-c", HEALTH, *hosts)

    said = release.namespace.kubectl(*words)
    assert said.splitlines() == [f"{host} 200" for host in hosts]


def browser(release: Release, client: Client, subject: str) -> httpx.Client:
    """Open a client of the pages with a token of this subject's."""
    made = client.connection.post("/v1/tokens", {"name": "pages", "subject": subject})
    headers = {"Authorization": f"Bearer {made['token']}"}
    return httpx.Client(base_url=release.url, headers=headers, timeout=60)
