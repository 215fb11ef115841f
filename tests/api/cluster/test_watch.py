"""Watches that break: what changes meanwhile is looked for, and they listen again."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_jobs import KubernetesJobs
from api.cluster.pod_objects import JOB_LABEL, made_labels
from api.cluster.watch import PAUSE, Watch
from tests.api.cluster.api_server import BREAK, NAMESPACE, ApiServer, api_server, event
from tests.api.cluster.kubernetes_rules import rules
from tests.fixtures.cluster import until

AT_ONCE = (0.0, 0.01)
MUCH_LATER = (600.0, 600.0)
Watching = Callable[..., Watch]
FORGOTTEN = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[ApiServer, str]]:
    with api_server(tmp_path) as running:
        yield running


@pytest.fixture
def server(running: tuple[ApiServer, str]) -> ApiServer:
    return running[0]


@pytest.fixture
def api(running: tuple[ApiServer, str]) -> Iterator[KubernetesApi]:
    api = KubernetesApi(NAMESPACE, timeout=timedelta(seconds=20), kubeconfig=running[1])
    yield api
    api.close()


@pytest.fixture
def watching(api: KubernetesApi) -> Iterator[Watching]:
    """Begin a watch of Jobs; the server is told before what it says."""
    begun: list[Watch] = []

    def begin(pause: tuple[float, float] = PAUSE) -> Watch:
        watch = Watch(api, labels="", named_by=(JOB_LABEL,), pause=pause)
        begun.append(watch)
        watch.begin(["Job"])
        return watch

    yield begin
    for watch in begun:
        watch.end()


def test_a_forgotten_past_is_listed_anew_at_once(
    server: ApiServer, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(event("ADDED", job="a"), FORGOTTEN)
    server.play(410)
    server.play(event("MODIFIED", job="b"))
    watch = watching(MUCH_LATER)
    until(lambda: watch.changes == 5)  # three beginnings and two events
    assert server.watches == ["1", "11", "21"]
    assert server.lists == ["jobs"] * 3
    assert watch.take() == {"a", "b"}
    assert watch.listens
    assert not caplog.records


def test_a_broken_connection_is_made_again_after_a_pause(
    server: ApiServer, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(event("ADDED", job="a"), BREAK)
    server.play(503)
    server.play(event("DELETED", job="b"))
    with caplog.at_level(logging.WARNING, logger="worker"):
        watch = watching(AT_ONCE)
        until(lambda: watch.changes == 5)
    assert server.watches == ["1", "11", "21"]
    assert watch.take() == {"a", "b"}
    assert watch.listens
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(line.startswith("cannot watch Job objects in namespace woods: ") for line in said)


def test_nothing_is_taken_for_heard_until_it_listens_again(
    server: ApiServer, watching: Watching
) -> None:
    server.play(event("ADDED", job="a"), BREAK)
    watch = watching(MUCH_LATER)
    until(lambda: watch.changes == 2 and not watch.listens)
    assert server.watches == ["1"]


def test_a_change_wakes_and_a_bookmark_does_not(server: ApiServer, watching: Watching) -> None:
    server.play(
        event("BOOKMARK"), event("ADDED", job="a"), event("MODIFIED"), event("ADDED", job="z")
    )
    watch = watching()
    watch.wait(timedelta(seconds=20))
    heard: set[str] = set()

    def has_heard_all() -> bool:
        heard.update(watch.take())
        return "z" in heard

    until(has_heard_all)
    assert heard == {"a", "z"}
    assert watch.changes == 4  # its beginning, and three events


def test_a_list_is_read_anew_where_a_deaf_watch_says_nothing(
    server: ApiServer, api: KubernetesApi, watching: Watching
) -> None:
    labels = {**made_labels(rules()), JOB_LABEL: "run-j-1"}
    server.put("jobs", {"metadata": {"name": "run-j-1", "labels": labels}, "spec": {}})
    watch = watching()
    until(lambda: watch.listens)
    jobs = KubernetesJobs(
        api, rules(), watch=watch, call_deadline=timedelta(seconds=10), programs={}
    )
    assert jobs.look("run-j-1") is not None
    read = server.lists.count("jobs")
    del server.objects["jobs"]["run-j-1"]
    assert jobs.look("run-j-1") is not None  # nothing was heard: what was read last is good
    assert server.lists.count("jobs") == read
    until(lambda: jobs.look("run-j-1") is None)
