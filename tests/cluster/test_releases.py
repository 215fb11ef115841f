"""The release as Helm sees it: the life of `helm test`, an upgrade that would end all jobs."""

import re

import pytest

from bearloop.client import Client
from tests.cluster.conftest import RELEASE, install
from tests.cluster.rig import CommandError, Release, run


def test_helm_proves_a_life(release: Release, client: Client) -> None:
    said = run("helm", "test", RELEASE, "--namespace", release.namespace.name, "--timeout", "8m")

    assert re.search(r"^Phase: +Succeeded$", said, re.MULTILINE), said
    projects = [project["name"] for project in client.connection.items("/v1/projects")]
    assert any(name.startswith("helm-test-") for name in projects), "as the notes say"


def test_an_upgrade_that_renames_the_owner_is_refused(release: Release) -> None:
    owner = f"{RELEASE}-bearloop-owner"
    before = release.namespace.get("configmap", owner)["metadata"]["uid"]
    with pytest.raises(CommandError, match=rf'nameOverride is "bruin".*{owner}'):
        install(RELEASE, "--set", "nameOverride=bruin")

    assert release.namespace.get("configmap", owner)["metadata"]["uid"] == before
