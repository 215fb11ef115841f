"""Any part killed at any instant: what was acknowledged stays, and nothing happens twice."""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from mlflow import MlflowClient

from api.cluster.folders import ProcessFolder
from bearloop.client import Client, UnreachableError
from bearloop.client.endpoints import classify
from bearloop.contract.imports import ZipSource
from tests.life.pictures import Shapes, shapes
from tests.life.platform import (
    PATIENCE,
    Up,
    kill_process,
    kill_shim,
    patiently,
    until,
)
from tests.life.story import (
    GATES,
    Trained,
    assert_answers_as_reported,
    promote,
    start_run,
)

pytestmark = pytest.mark.long

FEW = {"train": 12, "valid": 4, "test": 4}
STEPS = 18
"""Of a whole run on the pictures of `trained`: two epochs of nine."""


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"the moments come from seed {seed}")  # pytest shows it when the test fails
    return random.Random(seed)


@pytest.fixture
def endpoint(client: Client, trained: Trained) -> Iterator[str]:
    client.endpoints.create("busy", gates=GATES)
    yield "busy"
    client.endpoints.delete("busy")


def test_an_import_outlives_the_death_of_all_that_do_it(
    up: Up, client: Client, dice: random.Random
) -> None:
    drawn = shapes(seed=2, shares=FEW)
    client.datasets.create("killed", valid_share=0.0)
    upload = client.datasets.upload("killed", drawn.zipped)
    number = client.datasets.start_import("killed", ZipSource(upload=upload)).number
    kill_process(until(up.jobs, "the importer works")[0])
    kill_shim(until(up.jobs, "the next attempt works")[0])
    up.kill_program("worker")
    until(up.jobs, "the third attempt works")
    kill_at_any_time(up, ["worker", "api"], dice)
    until(lambda: patiently(lambda: client.datasets.get_import("killed", number)).ended, "its end")
    assert_imported_once(client, "killed", number=number, drawn=drawn)


def test_a_run_outlives_the_death_of_all_that_do_it(
    up: Up, client: Client, trained: Trained, dice: random.Random
) -> None:
    run = start_run(client, trained.dataset, trained.version.number, checkpoint_every="PT1S")
    await_checkpoint(up, run)
    kill_process(up.jobs()[0])
    until(lambda: up.jobs() and launches(client, run) == 2, "the second attempt")
    up.kill_program("mlflow")
    await_stage(up, run, "evaluate")
    kill_shim(up.jobs()[0])
    until(lambda: up.jobs() and launches(client, run) == 3, "the third attempt")
    kill_at_any_time(up, ["worker", "api"], dice)
    until((up.mailbox(run) / "result.json").exists, "the result")
    up.kill_program("worker")
    await_end(client, run)
    assert launches(client, run) >= 3
    assert_as_undisturbed(up, client, run, trained)
    # Nothing was left to train for the attempt that ended it, and the run tells what all took.
    fit = (client.runs.get(run).seconds or {})["fit"]
    assert last_fit(up, run) < (client.runs.get(trained.run).seconds or {})["fit"] / 2
    assert last_fit(up, run) < fit / 2


def test_a_promotion_outlives_the_death_of_all_that_do_it(
    up: Up, client: Client, trained: Trained, endpoint: str, dice: random.Random
) -> None:
    token = client.endpoints.create_token(endpoint, "shop")
    number = client.endpoints.promote(endpoint, trained.run).number

    def servers() -> list[ProcessFolder]:
        return up.servers(endpoint)

    kill_process(until(servers, "the candidate works")[0])
    up.kill_program("worker")
    kill_shim(until(servers, "another candidate works")[0])
    kill_at_any_time(up, ["api", "worker"], dice)

    def state() -> str:
        return patiently(lambda: client.endpoints.promotion(endpoint, number)).state

    until(lambda: state() != "checking", "the gates are judged")
    up.kill_program("worker")
    until(lambda: state() not in ("checking", "rolling_out"), "its end")
    ended = client.endpoints.promotion(endpoint, number)
    assert ended.state == "live", ended
    assert [gate.passed for gate in ended.results] == [True] * len(GATES)
    assert_answers_as_reported(
        client, endpoint, run=trained.run, shapes=trained.shapes, token=token
    )
    for kill in (kill_process, kill_shim):
        await_single_server(up, endpoint)
        kill(servers()[0])
        await_answer(client, endpoint, token=token, shapes=trained.shapes)
    target = f"endpoints/{endpoint}/promotions/"
    audit = client.connection.items(f"/v1/projects/{client.project}/audit")
    assert len([event for event in audit if event["target"].startswith(target)]) == 1


def test_no_acknowledged_write_is_lost_or_done_twice(
    up: Up, client: Client, trained: Trained, dice: random.Random
) -> None:
    review = client.reviews.open(trained.run, limit=120, screen_size=2).number
    tokens: list[str] = []
    decided: list[str] = []
    done = threading.Event()
    with ThreadPoolExecutor(2) as writers:
        writing = [
            writers.submit(make_tokens, up, client, acknowledged=tokens, done=done),
            writers.submit(
                decide, up, client, review, trained.shapes, acknowledged=decided, done=done
            ),
        ]
        try:
            kill_at_any_time(up, ["api", "postgres", "api"], dice, within=2.0, ready=True)
        finally:
            done.set()
        for writer in writing:
            writer.result(PATIENCE)
    kept = [token["name"] for token in client.connection.items("/v1/tokens")]
    assert tokens
    assert sorted(name for name in kept if name.startswith("kill-")) == sorted(tokens)
    path = f"/v1/projects/{client.project}/reviews/{review}/decisions"
    said = [decision["sha256"] for decision in client.connection.items(path)]
    assert decided
    assert sorted(said) == sorted(decided)
    assert client.reviews.get(review).decided == len(decided)
    client.reviews.close(review)


def test_the_platform_goes_on_where_it_was_killed(
    up: Up, client: Client, trained: Trained, endpoint: str
) -> None:
    token = client.endpoints.create_token(endpoint, "shop")
    promote(client, endpoint, trained.run)
    url = client.endpoints.get(endpoint).url
    run = start_run(client, trained.dataset, trained.version.number, checkpoint_every="PT1S")
    await_checkpoint(up, run)
    up.kill_all()
    up.start()
    until(up.jobs, "the next attempt works")
    up.kill_up()
    up.start()
    assert client.endpoints.get(endpoint).url == url
    await_answer(client, endpoint, token=token, shapes=trained.shapes)
    assert_answers_as_reported(
        client, endpoint, run=trained.run, shapes=trained.shapes, token=token
    )
    await_end(client, run)
    assert launches(client, run) == 2
    assert_as_undisturbed(up, client, run, trained)


def kill_at_any_time(
    up: Up,
    names: Sequence[str],
    dice: random.Random,
    *,
    within: float = 1.0,
    ready: bool = False,
) -> None:
    """Kill each program at a moment of the dice; `ready`: the API answers before the next."""
    for name in names:
        wait_for(dice.uniform(0, within))
        up.kill_program(name)
        if ready:
            up.await_ready()


def wait_for(seconds: float) -> None:
    """Let a random time pass; nothing is expected of it."""
    moment = time.monotonic() + seconds
    until(lambda: time.monotonic() > moment, "the moment comes")


def await_checkpoint(up: Up, run: int) -> None:
    """Wait until something of its training is kept."""
    kept = up.mailbox(run) / "checkpoints"
    until(lambda: list(kept.glob("*.safetensors")), f"run {run} has a checkpoint")


def await_stage(up: Up, run: int, stage: str) -> None:
    """Wait until an attempt that works is so far, by what it says itself."""
    attempts = up.mailbox(run) / "attempts"

    def there() -> bool:
        working = {sight.attempt for job in up.jobs() if (sight := job.look())}
        return any(
            path.parent.name in working and json.loads(path.read_bytes())["stage"] == stage
            for path in attempts.glob("*/progress.json")
        )

    until(there, f"run {run} is at {stage}")


def last_fit(up: Up, run: int) -> float:
    """Seconds of the fit stages in the attempt that ended a run."""
    mailbox = up.mailbox(run)
    attempt = json.loads((mailbox / "result.json").read_bytes())["attempt"]
    used = json.loads((mailbox / "attempts" / attempt / "used-0.json").read_bytes())
    return float(used["seconds"]["fit"])


def await_end(client: Client, run: int) -> None:
    until(lambda: patiently(lambda: client.runs.get(run)).ended, f"run {run} ends")


def launches(client: Client, run: int) -> int:
    """How often the run was begun."""
    path = f"/v1/projects/{client.project}/runs/{run}"
    return int(patiently(lambda: client.connection.get(path))["launches"])


def await_single_server(up: Up, endpoint: str) -> None:
    def servers() -> object:
        shown = [(one.path, one.is_leaving, one.log()) for one in up.servers(endpoint)]
        return shown, (up.folder / "up.log").read_text(errors="replace")[-4000:]

    until(lambda: len(up.servers(endpoint)) == 1, "one server alone", instead=servers)


def await_answer(client: Client, endpoint: str, *, token: str, shapes: Shapes) -> None:
    """Wait until the endpoint answers, on the port that it had."""
    url = client.endpoints.get(endpoint).url
    assert url is not None
    picture = next(iter(shapes.files.values()))

    def answers() -> bool:
        try:
            return bool(classify(url, picture, token=token)["class"])
        except (httpx.TransportError, UnreachableError):
            return False

    until(answers, "the endpoint answers again")


def assert_imported_once(client: Client, dataset: str, *, number: int, drawn: Shapes) -> None:
    """Every picture once: in the ledger, in the dataset, and in the label events."""
    done = client.datasets.get_import(dataset, number)
    assert (done.state, done.stored, done.duplicates) == ("done", len(drawn.files), 0), done.why
    lines = list(client.datasets.ledger(dataset, number))
    assert sorted(line.sha256 or "" for line in lines) == sorted(drawn.truth)
    assert {image["sha256"] for image in client.datasets.images(dataset)} == set(drawn.truth)
    for sha256 in drawn.truth:
        path = f"/v1/projects/{client.project}/datasets/{dataset}/images/{sha256}/history"
        events = client.connection.get(path)
        assert len(events["items"]) == 1, events


def assert_as_undisturbed(up: Up, client: Client, run: int, trained: Trained) -> None:
    """One bundle, one report, one model version, every step once: as if nothing had happened."""
    seen = client.runs.get(run)
    assert (seen.state, seen.bundle_digest) == ("done", trained.bundle), seen.why
    assert client.runs.report(run).splits == client.runs.report(trained.run).splits
    assert steps(client, run) == steps(client, trained.run)
    assert [point["step"] for point in steps(client, run)] == list(range(1, STEPS + 1))
    mlflow = MlflowClient(tracking_uri=up.tracking_url, registry_uri=up.tracking_url)
    tracked = seen.mlflow_run_id
    assert tracked is not None
    logged = [point.step for point in mlflow.get_metric_history(tracked, "step/loss")]
    assert sorted(logged) == list(range(1, STEPS + 1))
    until(lambda: mlflow.get_run(tracked).info.status == "FINISHED", "MLflow knows the end")
    found = mlflow.search_model_versions(f"name = '{client.project}.{trained.dataset}'")
    bundles = [version.tags["bearloop.bundle"] for version in found]
    assert bundles.count(trained.bundle) == 1
    assert len(list((up.mailbox(run) / "checkpoints").glob("*"))) == 0


def steps(client: Client, run: int) -> list[dict[str, Any]]:
    """The run's curve, step by step."""
    path = f"/v1/projects/{client.project}/runs/{run}/curves"
    return list(client.connection.get(path)["steps"])


def make_tokens(up: Up, client: Client, *, acknowledged: list[str], done: threading.Event) -> None:
    """Make tokens one after the other, and note those that the API said it made."""
    while not done.is_set():
        name = f"kill-{uuid4().hex[:8]}"
        insist(up, client, "/v1/tokens", {"name": name})
        acknowledged.append(name)


def decide(
    up: Up,
    client: Client,
    review: int,
    drawn: Shapes,
    *,
    acknowledged: list[str],
    done: threading.Event,
) -> None:
    """Decide screen by screen, and note what the API said it took."""
    path = f"/v1/projects/{client.project}/reviews/{review}"
    while not done.is_set():
        screen = insist(up, client, f"{path}/claim", {})
        if screen["screen"] is None:
            return
        choices = [{"sha256": image["sha256"], "verb": "keep"} for image in screen["images"]]
        insist(up, client, f"{path}/screens/{screen['screen']}/decisions", {"decisions": choices})
        acknowledged.extend(choice["sha256"] for choice in choices)


def insist(up: Up, client: Client, path: str, body: dict[str, Any]) -> Any:
    """POST with one key until the API answers; it may die before, behind or in the middle."""
    headers = {"Idempotency-Key": uuid4().hex}
    headers["Authorization"] = up.authorization()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(up.url + path, json=body, headers=headers, timeout=60)
        except httpx.TransportError:
            continue
        if answer.status_code >= 500:  # the database may be dead too
            continue
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None
    raise AssertionError(f"no answer to {path} within {PATIENCE} s")
