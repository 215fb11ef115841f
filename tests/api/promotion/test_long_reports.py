"""A promotion whose reports take long to read is judged all the same."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import monotonic, sleep

import pytest
from fastapi.testclient import TestClient

from bearloop.store import FolderStore, Store
from tests.api.promotion.cluster import FakeCluster
from tests.api.promotion.zoo import Zoo

BEARS = "/v1/projects/zoo/endpoints/bears"


@pytest.fixture
def promoter(callers: Callable[[str], TestClient]) -> TestClient:
    client = callers("promoter")
    client.post("/v1/projects/zoo/endpoints", json={"name": "bears"})
    return client


def promote(client: TestClient, run: int) -> str:
    answer = client.post(BEARS + "/promotions", json={"run": run})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


class SlowReports(FolderStore):
    """A store that answers about the champion's report once the claim was renewed twice."""

    zoo: Zoo

    def under(self, prefix: str) -> Store:
        below = SlowReports(self.folder / prefix)
        below.zoo = self.zoo
        return below

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        if key == "reports/1.parquet":
            for _ in range(2):
                self._await_renewal()
        return super().get_range(key, start=start, length=length)

    def _await_renewal(self) -> None:
        before = self.zoo.endpoint().lease_until
        deadline = monotonic() + 10
        while monotonic() < deadline and self.zoo.endpoint().lease_until == before:
            sleep(0.05)


def test_reports_that_take_longer_to_read_than_a_claim_lasts_are_compared(
    zoo: Zoo, cluster: FakeCluster, promoter: TestClient
) -> None:
    promoter.patch(BEARS, json={"gates": [{"kind": "not-worse-than-champion"}]})
    promote(promoter, zoo.add_run("d1"))
    zoo.settle(cluster)
    where = promote(promoter, zoo.add_run("d2"))
    slow = SlowReports(zoo.store.folder)
    slow.zoo = zoo
    short = {"lease": timedelta(seconds=3), "call_deadline": timedelta(seconds=1)}
    patient = replace(zoo, store=slow, settings=zoo.settings.model_copy(update=short))
    patient.make_due()
    patient.step(cluster)
    shown = promoter.get(where).json()
    assert (shown["state"], shown["reason"]) == ("rolling_out", None)
