"""Database and store come up after the release: it waits, says for what, and goes on by itself."""

from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.cluster.conftest import opened
from tests.cluster.late_servers import DATABASE, KEYS, STORE, Late
from tests.cluster.rig import Namespace, Release, run, until

NAMESPACE, RELEASE = "bearloop-late", "late"


@pytest.fixture
def late(release: Release) -> Iterator[Late]:
    made = Late(Namespace(NAMESPACE), RELEASE, release)
    made.prepare()
    yield made
    run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")


def test_a_release_waits_for_its_servers_and_goes_on_by_itself(late: Late) -> None:
    late.install()
    away = "waiting: the database does not let us in"
    late.await_word("migrations", "migrations", away)
    late.await_word("mlflow", "database", away)
    for program in ("api", "worker", "first-token"):
        late.await_word(program, "schema", away)

    late.start(DATABASE, "postgresql", POSTGRES_PASSWORD="admin", PGPASSWORD="admin")
    late.make_databases()
    late.await_word("migrations", "migrations", "the schema is at")
    for program in ("api", "worker", "first-token"):
        late.await_word(program, "schema", "password authentication failed")
    late.set_password("right")

    def says_what_is_missing() -> bool:
        with suppress(httpx.HTTPError, KeyError):
            return late.readiness().get("because") == {"store": "does not answer"}
        return False

    until(says_what_is_missing, "the API runs, and lacks the store alone")
    assert late.readiness()["code"] == 503

    root = {"MINIO_ROOT_USER": "AWS_ACCESS_KEY_ID", "MINIO_ROOT_PASSWORD": "AWS_SECRET_ACCESS_KEY"}
    late.start(STORE, "minio", **{name: KEYS[key] for name, key in root.items()})
    late.make_bucket()
    release = opened(late.namespace, RELEASE)
    client = release.client()
    assert "main" in [project["name"] for project in client.connection.items("/v1/projects")]
    client.close()
    assert late.restarts() == {}, "nothing ended while it waited"
    assert late.failed() == [], "no try of a Job was spent"
