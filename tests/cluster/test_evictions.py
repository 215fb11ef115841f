"""A trainer's pod is evicted in the middle: the run goes on, and each step is logged once."""

import httpx

from bearloop.client import Client
from tests.cluster.rig import Release, until
from tests.life.pictures import recipe
from tests.life.story import Trained, await_run

EPOCHS = 12


def test_an_evicted_run_goes_on_from_its_checkpoint(
    release: Release, client: Client, imported: Trained
) -> None:
    whole = recipe(epochs=EPOCHS).model_dump(mode="json")
    asked = {"recipe": whole, "seed": 7, "gpus": 1, "device": "auto"}
    (run,) = client.runs.start(imported.dataset, imported.version.number, **asked)
    trainers = "app.kubernetes.io/component=trainer"

    def is_fitting() -> bool:
        progress = client.runs.get(run.number).progress
        return progress is not None and "valid_loss" in progress.numbers

    until(is_fitting, "the run has trained an epoch")
    (pod,) = release.namespace.running(trainers)
    release.namespace.evict(pod)
    until(lambda: pod not in release.namespace.running(trainers), "the pod is gone")
    assert await_run(client, run.number)
    log = client.runs.logs(run.number)
    assert "goes on from a checkpoint" in log, log

    steps = logged_steps(release, client, run.number)
    assert steps
    assert steps == sorted(set(steps)), "each step is logged once, in order"
    assert steps[0] == 1
    assert steps == list(range(1, len(steps) + 1)), "none is missing"


def logged_steps(release: Release, client: Client, run: int) -> list[int]:
    """Return the steps at which MLflow has a training loss, as MLflow itself says."""
    tracked = client.runs.get(run).mlflow_run_id or ""
    mlflow = f"http://{release.namespace.address(f'{release.name}-bearloop-mlflow')}"
    name = {"run_id": tracked, "metric_key": "step/loss", "max_results": "5000"}
    # MLflow answers to its own names only.
    headers = {"Host": f"{release.name}-bearloop-mlflow:5000"}
    answer = httpx.get(
        f"{mlflow}/api/2.0/mlflow/metrics/get-history", params=name, headers=headers, timeout=30
    )
    answer.raise_for_status()
    return [int(metric["step"]) for metric in answer.json()["metrics"]]
