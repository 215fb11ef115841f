"""The whole life on real parts: from a zip of pictures to an endpoint that answers, and its end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import numpy as np
import pytest

from bearloop.bundle import bundle_prefix, load_bundle
from bearloop.client import ApiProblem, Client
from bearloop.client.endpoints import classify
from bearloop.preprocess import preprocess
from bearloop.store import FolderStore, Store
from tests.fixtures.s3_server import S3Server
from tests.life.pictures import shapes
from tests.life.platform import PATIENCE, Up, bearloop_up, until
from tests.life.story import (
    GATES,
    Trained,
    assert_answers_as_reported,
    await_promotion,
    await_run,
    judge,
    promote,
    train,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLEAN = """
import json, sys, numpy as np, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
logits = model.predict({"pixels": np.load(sys.argv[2])})["logits"].astype("float64")
shares = np.exp(logits - logits.max(axis=1, keepdims=True))
known = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([(shares / shares.sum(axis=1, keepdims=True)).tolist(), known]))
"""
"""A process that knows MLflow only: prints the model's probabilities, and what it imported."""


def test_the_whole_life(up: Up, client: Client, trained: Trained) -> None:
    review = client.reviews.open(trained.run, limit=60, screen_size=6)
    retrained, relabelled = clean_and_retrain(client, trained, review.number)
    diff = client.datasets.diff(
        "shapes",
        client.reviews.get(review.number).cleaned_version or 0,
        against=trained.version.number,
    )
    assert len(diff["relabelled"]) == relabelled, diff
    compared = client.runs.compare(trained.run, retrained)
    assert compared.images == 18
    assert (compared.a, compared.b) == (trained.run, retrained)

    client.endpoints.create("shapes", gates=GATES)
    token = client.endpoints.create_token("shapes", "shop")
    first = promote(client, "shapes", trained.run)
    assert [gate.passed for gate in first.results] == [True] * len(GATES)
    assert_answers_as_reported(
        client, "shapes", run=trained.run, shapes=trained.shapes, token=token
    )
    url = client.endpoints.get("shapes").url or ""
    with pytest.raises(ApiProblem, match="unauthorised"):
        classify(url, b"")

    promote(client, "shapes", retrained)
    assert_answers_as_reported(client, "shapes", run=retrained, shapes=trained.shapes, token=token)
    assert client.endpoints.get("shapes").url == url
    await_promotion(client, "shapes", client.endpoints.rollback("shapes").number)
    assert_answers_as_reported(
        client, "shapes", run=trained.run, shapes=trained.shapes, token=token
    )

    client.endpoints.delete("shapes")
    until(lambda: not up.servers("shapes"), "a deleted endpoint leaves no server")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz")
    assert_audited(client, dataset="shapes", endpoint="shapes", review=review.number)


def clean_and_retrain(client: Client, trained: Trained, review: int) -> tuple[int, int]:
    """Review until all wrong labels were shown; return the retrained run and how many changed."""
    relabelled = 0
    first = client.reviews.claim(review)
    assert first.screen is not None
    client.reviews.decide(review, first.screen, judge(first, trained.shapes))
    client.reviews.undo(review, count=len(first.images))
    assert client.reviews.get(review).decided == 0
    for _ in range(6):
        screen = client.reviews.claim(review)
        assert screen.screen is not None
        decisions = judge(screen, trained.shapes)
        client.reviews.decide(review, screen.screen, decisions)
        relabelled += sum(decision.verb == "relabel" for decision in decisions)
    assert relabelled > 0
    closed = client.reviews.close(review, retrain=True)
    assert closed.written["relabel"] == relabelled
    assert closed.conflicts == ()
    assert closed.retraining_run is not None
    await_run(client, closed.retraining_run)
    return closed.retraining_run, relabelled


def assert_audited(client: Client, *, dataset: str, endpoint: str, review: int) -> None:
    """The record tells the whole life, each deed once and by name."""
    events = list(client.connection.items(f"/v1/projects/{client.project}/audit"))
    about = (f"/datasets/{dataset}", f"endpoints/{endpoint}", f"reviews/{review}")
    done = [event["action"] for event in events if any(one in event["target"] for one in about)]
    told = {
        "dataset.create": 1,
        "import.start": 1,
        "version.freeze": 1,
        "review.create": 1,
        "review.claim": 6,
        "review.decide": 7,
        "review.undo": 1,
        "review.close": 1,
        "endpoint.create": 1,
        "endpoint_token.create": 1,
        "endpoint.promote": 2,
        "endpoint.roll_back": 1,
        "endpoint.delete": 1,
    }
    assert {name: done.count(name) for name in told} == told, done
    assert {"upload.store", "run.start"} <= {event["action"] for event in events}
    assert all(event["actor"] for event in events)


def test_the_registered_model_predicts_where_only_mlflow_is(
    up: Up, client: Client, trained: Trained, tmp_path: Path
) -> None:
    version = client.runs.get(trained.run).mlflow_version
    bundle = load_bundle(project_store(up), bundle_prefix(trained.bundle))
    pixels = np.stack([preprocess(data, bundle.card.preprocess) for data in bundle.golden])
    np.save(tmp_path / "pixels.npy", pixels)
    model = f"models:/{client.project}.{trained.dataset}/{version}"
    answer = subprocess.run(
        [sys.executable, "-c", CLEAN, model, str(tmp_path / "pixels.npy")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": up.tracking_url},
        cwd="/",
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found, known = json.loads(answer.stdout.splitlines()[-1])
    golden = [entry.probabilities for entry in bundle.card.golden]
    np.testing.assert_allclose(np.array(found), np.array(golden), atol=1e-4)
    assert not {"torch", "trainer", "bearloop", "api"} & set(known)


def test_the_same_spec_makes_the_same_bundle_outside_the_platform(
    up: Up, client: Client, trained: Trained, tmp_path: Path
) -> None:
    spec = up.mailbox(trained.run) / "spec.json"
    command = [sys.executable, "-m", "trainer", "--spec", str(spec)]
    done = subprocess.run(
        [*command, "--store", project_store(up).url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "BEARLOOP_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert result["output"]["bundle_digest"] == trained.bundle


@pytest.mark.long
def test_the_life_on_an_s3_store(s3_server: S3Server) -> None:
    s3 = opened(s3_server)
    s3.create_bucket(Bucket="life")
    told = {**s3_server.environment, "BEARLOOP_STORE_URL": "s3://life/team"}
    with bearloop_up(**told) as up:
        client = up.client()
        done = train(client, shapes(), "shapes")
        review = client.reviews.open(done.run)
        screen = client.reviews.claim(review.number)
        assert screen.screen is not None
        client.reviews.decide(review.number, screen.screen, judge(screen, done.shapes))
        assert client.reviews.close(review.number).digest != ""
        client.endpoints.create("shapes", gates=GATES)
        token = client.endpoints.create_token("shapes", "shop")
        promote(client, "shapes", done.run)
        assert_answers_as_reported(client, "shapes", run=done.run, shapes=done.shapes, token=token)
        client.close()
        assert not list(up.store.rglob("*"))
    keys = s3.list_objects_v2(Bucket="life", Prefix="team/projects/")["KeyCount"]
    assert keys >= len(done.shapes.files)
    s3.close()


def opened(server: S3Server) -> "S3Client":
    given = server.environment
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_DEFAULT_REGION"],
    )


def project_store(up: Up) -> Store:
    (project,) = (up.store / "projects").iterdir()
    return FolderStore(project)
