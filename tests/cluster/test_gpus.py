"""Runs that ask for GPUs: who waits says for what, and nobody trains silently on a CPU."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from bearloop.client import Client
from bearloop.client.waiting import wait_until_ended
from tests.cluster.rig import PATIENCE, Release, until
from tests.life.pictures import recipe
from tests.life.story import Trained, await_run

LONG = recipe(epochs=400).model_dump(mode="json")
"""Ends only when it is cancelled."""


@pytest.fixture
def quota(release: Release) -> Iterator[Callable[[int | None], None]]:
    """Set the project's quota over REST, as an operator does; in the end there is none again."""

    def change(count: int | None) -> None:
        httpx.patch(
            f"{release.url}/v1/projects/main",
            headers={"Authorization": f"Bearer {release.token}"},
            json={"gpu_quota": count},
        ).raise_for_status()

    yield change
    change(None)


def start(client: Client, imported: Trained, **asked: object) -> int:
    whole = asked.pop("recipe", LONG)
    (run,) = client.runs.start(
        imported.dataset, imported.version.number, recipe=whole, seed=7, **asked
    )
    return run.number


def test_the_third_run_on_two_gpus_waits_and_says_why(client: Client, imported: Trained) -> None:
    first, second = (start(client, imported, gpus=1, device="auto") for _ in range(2))
    until(lambda: client.runs.get(second).state == "running", "two runs have a GPU each")
    until(lambda: client.runs.get(first).state == "running", "two runs have a GPU each")
    short = recipe().model_dump(mode="json")
    third = start(client, imported, gpus=1, device="auto", recipe=short)

    def said() -> str:
        return client.runs.get(third).reason or ""

    until(lambda: "waits for 1 GPU" in said(), f"it says what it waits for, not {said()!r}")
    assert "2 of 2 in use" in said()
    assert f"run {first}" in said()
    assert f"run {second}" in said()

    client.runs.cancel(first)
    assert await_run(client, third)
    client.runs.cancel(second)
    for run in (first, second):
        await_cancelled(client, run)


def test_a_run_beyond_its_projects_quota_waits_and_says_for_whom(
    client: Client, imported: Trained, quota: Callable[[int | None], None]
) -> None:
    quota(1)
    first = start(client, imported, gpus=1, device="auto")
    short = recipe().model_dump(mode="json")
    second = start(client, imported, gpus=1, device="auto", recipe=short)
    until(lambda: client.runs.get(first).state == "running", "the first run has the one GPU")

    def said() -> str:
        return client.runs.get(second).reason or ""

    until(lambda: "quota" in said(), f"it says what it waits for, not {said()!r}")
    assert f"run {first}" in said()
    # The node has a second GPU: it is the quota alone that keeps the run back.
    quota(2)
    assert await_run(client, second)
    client.runs.cancel(first)
    await_cancelled(client, first)


def test_a_run_that_no_node_can_hold_says_so(client: Client, imported: Trained) -> None:
    run = start(client, imported, gpus=4, device="auto")
    says = "no node has 4 GPUs: the most is 2"
    until(lambda: says in (client.runs.get(run).reason or ""), "it says so", limit=60)
    client.runs.cancel(run)
    await_cancelled(client, run)


def test_a_run_that_asks_for_a_gpu_never_trains_on_the_cpu(
    client: Client, imported: Trained
) -> None:
    run = start(client, imported, gpus=1)
    ended = wait_until_ended(lambda: client.runs.get(run), limit=PATIENCE)
    assert ended.state == "failed"
    assert ended.launches == 1
    assert ended.problem is not None
    assert (ended.problem.code, ended.problem.value) == ("no_gpu", "cuda")


def await_cancelled(client: Client, run: int) -> None:
    ended = wait_until_ended(lambda: client.runs.get(run), limit=PATIENCE)
    assert ended.state == "cancelled"
