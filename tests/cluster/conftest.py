"""One release of the evaluation profile on the cluster that KUBECONFIG names, for all stories."""

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bearloop.client import Client
from tests.cluster.rig import (
    Namespace,
    Release,
    advertise_gpus,
    at_work,
    run,
    until,
    values_files,
)
from tests.life.pictures import recipe, shapes
from tests.life.story import Trained, await_run, bring_in

HERE = Path(__file__).parent
NAMESPACE, RELEASE = "bearloop-tests", "stories"
GPUS = 2
STORY = 1800
"""Seconds that one story may take at most."""
LAST = ("test_upgrades.py",)
"""What changes or ends the release that the other stories use."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        # The first one installs everything within its time.
        item.add_marker(pytest.mark.timeout(STORY))
        if "KUBECONFIG" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))
    items.sort(key=lambda item: item.path.name in LAST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what goes on in the cluster: it is gone when somebody reads of it."""
    report = yield
    if report.failed and HERE in item.path.parents:
        report.sections.append(("the cluster", at_work()))
    return report


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """Install as a platform engineer does; the namespace takes nothing but restricted pods."""
    namespace = Namespace(NAMESPACE)
    with suppress(AssertionError):
        run("kubectl", "delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")
    advertise_gpus(GPUS)
    said = install(RELEASE)
    installed = opened(namespace, RELEASE)
    assert said.splitlines()[-1] == installed.token, "who installed it is told the first token"
    yield installed
    run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")


def install(name: str, *words: str) -> str:
    """Install the chart, or upgrade it, and wait until it serves; return what is said."""
    told = ("env", f"RELEASE={name}", f"NAMESPACE={NAMESPACE}")
    return run(*told, "charts/up", *values_files(), "--timeout", "8m", *words)


def opened(namespace: Namespace, name: str) -> Release:
    """Return the release once its API answers at its address."""
    url = f"http://{namespace.address(f'{name}-bearloop-api')}"
    token = namespace.secret(f"{name}-bearloop-first-token")["token"]

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        return False

    until(answers, "the API is ready")
    return Release(namespace, name, url, token)


@pytest.fixture
def client(release: Release) -> Iterator[Client]:
    opened_client = release.client()
    yield opened_client
    opened_client.close()


@pytest.fixture(scope="session")
def imported(release: Release) -> Trained:
    """A dataset with one version, for runs of any test."""
    opened_client = release.client()
    try:
        drawn = shapes()
        version = bring_in(opened_client, drawn, "shapes")
        return Trained(drawn, "shapes", version, run=0, bundle="")
    finally:
        opened_client.close()


@pytest.fixture(scope="session")
def two_runs(release: Release, imported: Trained) -> list[int]:
    """Two runs that differ in their seeds, for whoever promotes them or looks at them."""
    opened_client = release.client()
    try:
        whole = recipe().model_dump(mode="json")
        asked = {"recipe": whole, "seed": 7, "seeds": 2, "device": "cpu"}
        runs = opened_client.runs.start(imported.dataset, imported.version.number, **asked)
        for run in runs:
            await_run(opened_client, run.number)
        return [run.number for run in runs]
    finally:
        opened_client.close()


@pytest.fixture
def picture(imported: Trained, tmp_path: Path) -> Path:
    """One picture of the dataset."""
    written = tmp_path / "one.png"
    written.write_bytes(next(iter(imported.shapes.files.values())))
    return written


def answers_from(url: str, token: str, *, picture: Path, bundle: str) -> None:
    """Wait until the outside of the cluster sees the bundle, too."""
    data = picture.read_bytes()

    def right() -> bool:
        with suppress(httpx.HTTPError):
            answer = httpx.post(
                f"{url}/classify", content=data, headers={"Authorization": f"Bearer {token}"}
            )
            return answer.status_code == 200 and answer.json()["bundle"] == bundle
        return False

    until(right, "the endpoint answers outside")
