"""Endpoints under load: promoted and rolled back without one failed request, scaled by load."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bearloop.client import Client
from tests.cluster.conftest import answers_from
from tests.cluster.rig import PATIENCE, Release, until
from tests.life.story import GATES, await_promotion, promote

LOAD = """
import json, signal, sys, threading
import httpx
url, token, picture = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
ended, told = threading.Event(), []
signal.signal(signal.SIGTERM, lambda *_: ended.set())
def ask():
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        while not ended.is_set():
            try:
                answer = client.post(f"{url}/classify", content=picture)
                told.append([answer.status_code, answer.json().get("bundle")])
            except httpx.HTTPError as error:
                told.append([0, repr(error)])
threads = [threading.Thread(target=ask) for _ in range(int(sys.argv[4]))]
[thread.start() for thread in threads]
print("asks", flush=True)
while not ended.wait(0.2):
    pass
[thread.join() for thread in threads]
print(json.dumps(told))
"""
"""A process that classifies one picture over and over, and tells every answer it got."""


@dataclass
class Load:
    """What the asking process was answered."""

    answers: list[tuple[int, str]]


@contextmanager
def load(url: str, token: str, *, picture: Path, threads: int = 2) -> Iterator[Load]:
    """Ask from a second process while the block runs."""
    command = [sys.executable, "-c", LOAD, url, token, str(picture), str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "asks\n"
    seen = Load([])
    try:
        yield seen
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=PATIENCE)
        seen.answers = [(status, bundle) for status, bundle in json.loads(said)]


def test_no_request_fails_while_bundles_change(
    release: Release, client: Client, two_runs: list[int], picture: Path
) -> None:
    first, second = (client.runs.get(run).bundle_digest for run in two_runs)
    client.endpoints.create("busy", gates=GATES[:2])
    token = client.endpoints.create_token("busy", "load")
    promote(client, "busy", two_runs[0])
    url = release.namespace.outside(client.endpoints.get("busy").url or "")
    answers_from(url, token, picture=picture, bundle=first or "")
    with load(url, token, picture=picture) as seen:
        promote(client, "busy", two_runs[1])
        await_promotion(client, "busy", client.endpoints.rollback("busy").number)
    failed = [answer for answer in seen.answers if answer[0] != 200]
    assert not failed, failed[:5]
    order = [bundle for _, bundle in seen.answers]
    assert {first, second} == set(order), "both bundles answered"
    assert order[0] == order[-1] == first
    client.endpoints.delete("busy")


def test_servers_come_and_go_with_the_load(
    release: Release, client: Client, two_runs: list[int], picture: Path
) -> None:
    client.endpoints.create("wide", gates=GATES[:2], replicas=1, most_replicas=2, cpu=0.2)
    token = client.endpoints.create_token("wide", "load")
    promote(client, "wide", two_runs[0])
    url = release.namespace.outside(client.endpoints.get("wide").url or "")
    servers = "app.kubernetes.io/component=inference"
    assert len(release.namespace.pods(servers)) == 1
    with load(url, token, picture=picture, threads=4):
        until(lambda: len(release.namespace.running(servers)) == 2, "one more server starts")
    began = time.monotonic()
    # A server leaves when it was idle for the stabilisation window, five minutes by default.
    until(lambda: len(release.namespace.pods(servers)) == 1, "it leaves again")
    print(f"scaled in after {time.monotonic() - began:.0f} s")
    client.endpoints.delete("wide")
