"""The last stories: an upgrade across a schema change, the way back, and the uninstall."""

import os
import re

import httpx
import pytest

from bearloop.client import Client
from tests.cluster.conftest import RELEASE, install
from tests.cluster.rig import Release, run, until
from tests.life.story import Trained

NEXT = os.environ.get("BEARLOOP_TEST_NEXT_TAG", "")
"""Tag of the api image made by `next.Dockerfile`, and of an mlflow image like the present one."""
KINDS = (
    "pods,services,deployments,statefulsets,replicasets,jobs,configmaps,secrets,serviceaccounts,"
    "persistentvolumeclaims,roles,rolebindings,networkpolicies,horizontalpodautoscalers,"
    "poddisruptionbudgets,ingresses"
)
CLUSTERS_OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default", "service/kubernetes"}


def revision(release: Release) -> str:
    """Return the schema's revision, as PostgreSQL has it."""
    pod = f"{release.name}-bearloop-postgresql-0"
    query = "psql -U postgres -d bearloop -Atc 'select version_num from alembic_version'"
    return release.namespace.kubectl("exec", pod, "--", "sh", "-c", query).strip()


def works(client: Client, imported: Trained, *, name: str) -> None:
    """Reads what was there, and takes what is new."""
    assert client.datasets.profile(imported.dataset)
    client.datasets.create(name, valid_share=0.2)
    assert name in [view.name for view in client.datasets.list()]


@pytest.mark.skipif(not NEXT, reason="BEARLOOP_TEST_NEXT_TAG names no image of a next release")
def test_an_upgrade_across_a_schema_change_and_the_way_back(
    release: Release, client: Client, imported: Trained
) -> None:
    before = revision(release)
    install(RELEASE, "--set", f"image.tag={NEXT}")
    assert revision(release) == "next_release" != before
    until(lambda: httpx.get(f"{release.url}/readyz").status_code == 200, "the new API is ready")
    works(client, imported, name="after-upgrade")

    run("helm", "rollback", RELEASE, "1", "--namespace", release.namespace.name, "--wait")
    assert revision(release) == "next_release", "nothing goes back in the database"
    until(lambda: httpx.get(f"{release.url}/readyz").status_code == 200, "the old API is ready")
    works(client, imported, name="after-rollback")
    assert "main" in [project["name"] for project in client.connection.items("/v1/projects")]


def test_an_uninstall_leaves_what_the_notes_declare(release: Release) -> None:
    namespace = release.namespace
    notes = run("helm", "get", "notes", RELEASE, "--namespace", namespace.name)
    run("helm", "uninstall", RELEASE, "--namespace", namespace.name, "--wait", "--timeout", "5m")

    def left() -> set[str]:
        found = namespace.kubectl("get", KINDS, "-o", "name").split()
        plain = {re.sub(r"\.[a-z0-9.]+/", "/", name) for name in found}
        return plain - CLUSTERS_OWN

    declared = {word.strip(".,`'\"") for word in notes.split()}
    until(
        lambda: all(name.rpartition("/")[2] in declared for name in left()),
        f"only what the notes declare is left, not {left()}",
    )
