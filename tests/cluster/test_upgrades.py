"""The last stories: an upgrade across a schema change, the way back, and the uninstall."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bearloop.client import Client
from tests.cluster.callers import Asked, asking
from tests.cluster.conftest import RELEASE, answers_from, install
from tests.cluster.rig import Release, run, until
from tests.life.story import GATES, Trained, promote

NEXT = os.environ.get("BEARLOOP_TEST_NEXT_TAG", "")
"""Tag of the api image made by `next.Dockerfile`, and of an mlflow image like the present one."""
KINDS = (
    "pods,services,deployments,statefulsets,replicasets,jobs,configmaps,secrets,serviceaccounts,"
    "persistentvolumeclaims,roles,rolebindings,networkpolicies,horizontalpodautoscalers,"
    "poddisruptionbudgets,ingresses"
)
OF_THE_CLUSTER = "clusterroles,clusterrolebindings"
CLUSTERS_OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default", "service/kubernetes"}


@pytest.fixture
def served(release: Release, client: Client, two_runs: list[int], picture: Path) -> Iterator[Asked]:
    """An endpoint that answers, and how to ask it."""
    client.endpoints.create("lasting", gates=GATES[:2])
    token = client.endpoints.create_token("lasting", "load")
    promote(client, "lasting", two_runs[0])
    url = release.namespace.outside(client.endpoints.get("lasting").url or "")
    bundle = client.runs.get(two_runs[0]).bundle_digest
    answers_from(url, token, picture=picture, bundle=bundle or "")
    content = picture.read_bytes()
    yield Asked("classifies", "POST", f"{url}/classify", token, content, "image/png")
    client.endpoints.delete("lasting")


def revision(release: Release) -> str:
    """Return the schema's revision, as PostgreSQL has it."""
    pod = f"{release.name}-bearloop-postgresql-0"
    query = "psql -U postgres -d bearloop -Atc 'select version_num from alembic_version'"
    return release.namespace.kubectl("exec", pod, "--", "sh", "-c", query).strip()


def of_the_api(release: Release) -> list[Asked]:
    """Ask the API for a list, and to make small things."""
    datasets = f"{release.url}/v1/projects/main/datasets"
    # No name twice, in one process or in the next.
    content = f'{{"name": "load-{time.time_ns()}-NUMBER"}}'.encode()
    return [
        Asked("reads", "GET", f"{datasets}?limit=5", release.token),
        Asked("writes", "POST", datasets, release.token, content),
    ]


def runs_everywhere(release: Release, tag: str) -> None:
    """Wait until API, worker and endpoint run this image alone, `""` for the chart's own."""

    def tags() -> set[str]:
        selector = "app.kubernetes.io/component in (api,worker,inference)"
        pods = release.namespace.get("pods", "-l", selector)["items"]
        return {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods}

    until(lambda: len(tags()) == 1 and (tags() == {NEXT}) is (tag == NEXT), f"all pods run {tag}")


def works(client: Client, imported: Trained, *, name: str) -> None:
    """Reads what was there, and takes what is new."""
    assert client.datasets.profile(imported.dataset)
    client.datasets.create(name, valid_share=0.2)
    assert name in [view.name for view in client.datasets.list()]


@pytest.mark.skipif(not NEXT, reason="BEARLOOP_TEST_NEXT_TAG names no image of a next release")
def test_an_upgrade_across_a_schema_change_and_the_way_back_lose_no_request(
    release: Release, client: Client, imported: Trained, served: Asked
) -> None:
    before = revision(release)
    with asking([*of_the_api(release), served]) as up:
        install(RELEASE, "--set", f"image.tag={NEXT}")
        assert revision(release) == "next_release" != before
        runs_everywhere(release, NEXT)
    works(client, imported, name="after-upgrade")

    with asking([*of_the_api(release), served]) as back:
        run("helm", "rollback", RELEASE, "1", "--namespace", release.namespace.name, "--wait")
        assert revision(release) == "next_release", "nothing goes back in the database"
        runs_everywhere(release, "")
    works(client, imported, name="after-rollback")
    assert "main" in [project["name"] for project in client.connection.items("/v1/projects")]
    for told in (up, back):
        assert not told.failed, told.failed[:5]
        assert {"reads", "writes", "classifies"} == set(told.answered)


def test_an_uninstall_leaves_what_the_notes_declare(release: Release) -> None:
    namespace = release.namespace
    # The end of their names: every namespace may have this release.
    ours = hashlib.sha256(namespace.name.encode()).hexdigest()[:8]

    def of_the_cluster() -> list[str]:
        found = namespace.kubectl("get", OF_THE_CLUSTER, "-o", "name").split()
        return [name for name in found if name.endswith(ours)]

    assert len(of_the_cluster()) == 2
    notes = run("helm", "get", "notes", RELEASE, "--namespace", namespace.name)
    run("helm", "uninstall", RELEASE, "--namespace", namespace.name, "--wait", "--timeout", "5m")

    def left() -> set[str]:
        found = namespace.kubectl("get", KINDS, "-o", "name").split() + of_the_cluster()
        plain = {re.sub(r"\.[a-z0-9.]+/", "/", name) for name in found}
        return plain - CLUSTERS_OWN

    declared = {word.strip(".,`'\"") for word in notes.split()}
    until(
        lambda: all(name.rpartition("/")[2] in declared for name in left()),
        f"only what the notes declare is left, not {left()}",
    )
