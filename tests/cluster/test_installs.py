"""Two releases side by side in one namespace: each lives its own life, and ends alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bearloop.client import Client
from tests.cluster.conftest import answers_from, install, opened
from tests.cluster.rig import Release, run, until
from tests.life.pictures import recipe, shapes
from tests.life.story import GATES, Trained, await_run, bring_in, promote

TWIN = "twin"
SMALL = {
    **{
        f"{part}.resources.requests.cpu": "50m"
        for part in ("api", "worker", "mlflow", "postgresql", "minio")
    },
    "inference.cpu": 0.2,
    "inference.outliveRelease": True,
}
"""Two releases on two cores; endpoints of this one outlive it."""
ENDPOINT = f"bearloop.io/endpoint,app.kubernetes.io/instance={TWIN}"


@pytest.fixture
def twin(release: Release) -> Iterator[Release]:
    """Another release in the namespace of the first one, whose endpoints outlive it."""
    small = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    said = install(TWIN, *(word for set_to in small for word in ("--set-json", set_to)))
    installed = opened(release.namespace, TWIN)
    assert said.splitlines()[-1] == installed.token != release.token
    yield installed
    run("helm", "uninstall", TWIN, "--namespace", release.namespace.name, "--ignore-not-found")
    kinds = "horizontalpodautoscalers,deployments,poddisruptionbudgets,services,secrets"
    release.namespace.kubectl("delete", kinds, "-l", ENDPOINT)
    everything = "configmaps,secrets,serviceaccounts,persistentvolumeclaims"
    release.namespace.kubectl("delete", everything, "-l", f"app.kubernetes.io/instance={TWIN}")


def test_two_releases_in_one_namespace_end_alone(
    release: Release, twin: Release, client: Client, imported: Trained, picture: Path
) -> None:
    drawn, other = shapes(seed=8), twin.client()
    version = bring_in(other, drawn, "twins")
    assert "twins" not in [view.name for view in client.datasets.list()]
    assert [view.name for view in other.datasets.list()] == ["twins"]
    (theirs,) = other.runs.start("twins", version.number, recipe=told(epochs=2), device="cpu")
    bundle = await_run(other, theirs.number)
    other.endpoints.create("shop", gates=GATES[:1])
    token = other.endpoints.create_token("shop", "asks")
    promote(other, "shop", theirs.number)
    url = release.namespace.outside(other.endpoints.get("shop").url or "")
    answers_from(url, token, picture=picture, bundle=bundle)
    other.close()
    asked = {"recipe": told(epochs=20), "device": "cpu"}
    (mine,) = client.runs.start(imported.dataset, imported.version.number, **asked)
    until(lambda: client.runs.get(mine.number).state == "running", "a run of the first release")

    run("helm", "uninstall", TWIN, "--namespace", release.namespace.name, "--wait")
    chart = (
        f"app.kubernetes.io/instance={TWIN},helm.sh/chart,app.kubernetes.io/component!=inference"
    )
    until(lambda: not release.namespace.get("pods", "-l", chart)["items"], "its pods have ended")
    answers_from(url, token, picture=picture, bundle=bundle)
    await_run(client, mine.number)
    assert client.runs.get(mine.number).launches == 1, "the run of the first release went on"


def told(*, epochs: int) -> dict[str, Any]:
    """Say a recipe as the API reads it."""
    return recipe(epochs=epochs).model_dump(mode="json")
