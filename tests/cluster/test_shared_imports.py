"""An import that several pods share, one of them killed in the middle: nothing lost or double."""

import hashlib
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from bearloop.client import Client
from bearloop.contract.imports import ZipSource
from tests.api.imports.pictures import zipped
from tests.cluster.rig import Release, until

PICTURES = 1200
"""More than `settings.sourcesPerShard` of tests/cluster/values.yaml, for each of PODS."""
PODS = 3
"""As `settings.importShards` says."""
IMPORTERS = "app.kubernetes.io/component=importer"
INDEX = "batch.kubernetes.io/job-completion-index"


def test_a_killed_pod_of_a_shared_import_loses_and_doubles_nothing(
    release: Release, client: Client
) -> None:
    files = pictures()
    client.datasets.create("many")
    upload = client.datasets.upload("many", zipped(files))
    number = client.datasets.start_import("many", ZipSource(upload=upload)).number
    killed = kill_in_the_middle(release, client, number)
    ended = client.datasets.wait_for_import("many", number)
    assert (ended.stored, ended.duplicates, ended.refused) == (PICTURES, 0, 0)

    ledger = list(client.datasets.ledger("many", number))
    assert [line.position for line in ledger] == list(range(PICTURES))
    assert [line.location for line in ledger] == list(files), "in the source's order"
    assert {line.location: line.sha256 for line in ledger} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert len({image["sha256"] for image in client.datasets.images("many")}) == PICTURES
    pods = release.namespace.get("pods", "-l", IMPORTERS)["items"]
    assert killed not in {pod["metadata"]["name"] for pod in pods}


def kill_in_the_middle(release: Release, client: Client, number: int) -> str:
    """Kill a pod when all of them have begun and none can have done its share; return its name."""

    def all_are_at_work() -> bool:
        seen = client.datasets.get_import("many", number)
        assert not seen.ended, "it ended before a pod could be killed: let it have more pictures"
        now = seen.progress
        # The total is known once each pod knows its own.
        return now is not None and now.total == PICTURES and 0 < now.done < PICTURES // PODS

    until(all_are_at_work, f"{PODS} pods share the import")
    pods = release.namespace.pods(IMPORTERS)
    indexes = {pod["metadata"]["labels"][INDEX]: pod["metadata"]["name"] for pod in pods}
    assert set(indexes) == {str(index) for index in range(PODS)}
    release.namespace.kill(indexes["1"])
    return indexes["1"]


def pictures() -> Mapping[str, bytes]:
    """Draw noise, no two alike, in two classes."""
    dice = np.random.default_rng(5)
    made = {}
    for number in range(PICTURES):
        written = io.BytesIO()
        pixels = dice.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(written, "PNG")
        made[f"{'hail' if number % 2 else 'snow'}/{number:04d}.png"] = written.getvalue()
    return made
