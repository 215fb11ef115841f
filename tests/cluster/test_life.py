"""The whole life over REST on a cluster: a GPU Job trains, Deployments answer."""

from bearloop.client import Client
from tests.cluster.rig import Release, until
from tests.life.pictures import recipe
from tests.life.story import (
    GATES,
    Trained,
    assert_answers_as_reported,
    await_promotion,
    await_run,
    judge,
    promote,
)


def test_the_whole_life(release: Release, client: Client, imported: Trained) -> None:
    first = train(client, imported.version.number)
    review = client.reviews.open(first, limit=30, screen_size=6)
    relabelled = 0
    for _ in range(5):
        screen = client.reviews.claim(review.number)
        assert screen.screen is not None
        decisions = judge(screen, imported.shapes)
        client.reviews.decide(review.number, screen.screen, decisions)
        relabelled += sum(decision.verb == "relabel" for decision in decisions)
    closed = client.reviews.close(review.number)
    assert closed.written["relabel"] == relabelled > 0
    cleaned = client.reviews.get(review.number).cleaned_version
    second = train(client, cleaned or 0)
    compared = client.runs.compare(first, second)
    assert (compared.a, compared.b) == (first, second)

    client.endpoints.create("shapes", gates=GATES)
    token = client.endpoints.create_token("shapes", "shop")
    for run in (first, second):
        promoted = promote(client, "shapes", run)
        assert [gate.passed for gate in promoted.results] == [True] * len(GATES)
        assert_answers(release, client, imported, run=run, token=token)
    await_promotion(client, "shapes", client.endpoints.rollback("shapes").number)
    assert_answers(release, client, imported, run=first, token=token)

    client.endpoints.delete("shapes")
    kinds = "deployments,services,pods,horizontalpodautoscalers,poddisruptionbudgets,secrets"
    until(
        lambda: not release.namespace.get(kinds, "-l", "bearloop.io/endpoint")["items"],
        "a deleted endpoint leaves nothing",
    )


def train(client: Client, version: int) -> int:
    """Train with a GPU asked for; `auto` since there is no device behind it here."""
    whole = recipe().model_dump(mode="json")
    asked = {"recipe": whole, "seed": 7, "gpus": 1, "device": "auto"}
    (run,) = client.runs.start("shapes", version, **asked)
    await_run(client, run.number)
    done = client.runs.get(run.number)
    assert done.mlflow_version is not None
    assert done.launches == 1
    return run.number


def assert_answers(
    release: Release, client: Client, imported: Trained, *, run: int, token: str
) -> None:
    """The endpoint answers as the run's report says, asked from outside the cluster's DNS."""
    url = release.namespace.outside(client.endpoints.get("shapes").url or "")
    assert_answers_as_reported(
        client, "shapes", run=run, shapes=imported.shapes, token=token, url=url
    )
