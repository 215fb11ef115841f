"""MLflow from the control plane's side: a real server, every call made twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from api.settings import limit_mlflow
from api.tracking import TrackingError, TrackingServer
from tests.fixtures.mlflow_server import mlflow_server  # noqa: F401

DIGEST = "ab" * 32


@pytest.fixture
def server(mlflow_server: str) -> TrackingServer:  # noqa: F811
    return TrackingServer(mlflow_server)


def log_model(server: TrackingServer, run_id: str, folder: Path) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "MLmodel").write_text(f"flavors: {{}}\nrun_id: {run_id}\n")
    MlflowClient(server.url).log_artifacts(run_id, str(folder))


def test_a_job_has_one_run_with_its_tags(server: TrackingServer) -> None:
    tags = {"bearloop.version": DIGEST, "bearloop.run": "7"}
    made = server.ensure_run("zoo", "job-1", name="run 7", tags=tags)
    assert server.ensure_run("zoo", "job-1", name="run 7", tags=tags) == made
    assert TrackingServer(server.url).ensure_run("zoo", "job-1", name="x", tags={}) == made
    other = server.ensure_run("zoo", "job-2", name="run 8", tags=tags)
    assert other.experiment_id == made.experiment_id
    assert other.run_id != made.run_id
    run = MlflowClient(server.url).get_run(made.run_id)
    assert run.info.run_name == "run 7"
    assert {**run.data.tags, **tags, "bearloop.job": "job-1"} == run.data.tags
    assert server.run_url(made.experiment_id, made.run_id).startswith(server.url)


def test_a_worker_that_was_killed_before_it_told_leaves_no_second_run(
    server: TrackingServer,
) -> None:
    made = server.ensure_run("zoo", "job-7", name="r", tags={}, first=True)
    # Another one knows of nothing: it makes its own, finds the older, and takes its own away.
    other = TrackingServer(server.url)
    assert other.ensure_run("zoo", "job-7", name="r", tags={}, first=True) == made
    asked = "tags.`bearloop.job` = 'job-7'"
    (left,) = MlflowClient(server.url).search_runs([made.experiment_id], asked)
    assert left.info.run_id == made.run_id


def test_an_experiment_that_was_deleted_meanwhile_is_told(server: TrackingServer) -> None:
    made = server.ensure_run("gone", "job-8", name="r", tags={}, first=True)
    MlflowClient(server.url).delete_experiment(made.experiment_id)
    with pytest.raises(TrackingError, match="deleted"):
        server.ensure_run("gone", "job-9", name="r", tags={}, first=True)
    with pytest.raises(TrackingError, match="'gone' was deleted there; restore it"):
        server.ensure_run("gone", "job-9", name="r", tags={}, first=True)
    MlflowClient(server.url).restore_experiment(made.experiment_id)
    again = server.ensure_run("gone", "job-9", name="r", tags={}, first=True)
    assert again.experiment_id == made.experiment_id


def test_two_workers_that_ask_at_once_make_one_experiment(server: TrackingServer) -> None:
    servers = [TrackingServer(server.url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda one: one.ensure_run("at-once", "job-3", name="r", tags={}), servers)
        )
    again = server.ensure_run("at-once", "job-3", name="r", tags={})
    assert {run.experiment_id for run in made} == {again.experiment_id}


def test_an_end_is_told_and_may_be_told_again(server: TrackingServer) -> None:
    run = server.ensure_run("zoo", "job-4", name="run 9", tags={})
    server.end_run(run.run_id, "KILLED")
    server.end_run(run.run_id, "KILLED")
    assert MlflowClient(server.url).get_run(run.run_id).info.status == "KILLED"


def test_the_end_of_a_deleted_run_stops_nobody(server: TrackingServer) -> None:
    run = server.ensure_run("zoo", "job-5", name="run 10", tags={})
    MlflowClient(server.url).delete_run(run.run_id)
    server.end_run(run.run_id, "FINISHED")
    server.end_run("0" * 32, "FINISHED")


def test_a_bundle_is_one_version_of_the_model(server: TrackingServer, tmp_path: Path) -> None:
    runs = [server.ensure_run("zoo", f"job-m{n}", name="r", tags={}).run_id for n in range(2)]
    for run in runs:
        log_model(server, run, tmp_path / run)
    first = server.register_model(runs[0], DIGEST, name="zoo-bears")
    assert server.register_model(runs[0], DIGEST, name="zoo-bears") == first
    assert server.register_model(runs[1], DIGEST, name="zoo-bears") == first
    second = server.register_model(runs[1], "cd" * 32, name="zoo-bears")
    assert (first, second) == ("1", "2")
    version = MlflowClient(server.url).get_model_version("zoo-bears", "1")
    assert version.run_id == runs[0]


def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    away = TrackingServer("http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9"):
        away.ensure_run("zoo", "job-6", name="r", tags={})


def test_the_patience_of_mlflow_s_client_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta
    from os import environ

    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "120")
    limit_mlflow(timedelta(seconds=10))
    assert environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
