"""Runs that ask for GPUs: who waits says for what, and nobody trains silently on a CPU."""

from bearloop.client import Client
from bearloop.client.waiting import wait_until_ended
from tests.cluster.rig import PATIENCE, until
from tests.life.pictures import recipe
from tests.life.story import Trained, await_run

LONG = recipe(epochs=400).model_dump(mode="json")
"""Ends only when it is cancelled."""


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
