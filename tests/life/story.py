"""The steps of the life, each by the SDK alone, as its tests tell them."""

from dataclasses import dataclass

from bearloop.client import Client
from bearloop.client.endpoints import classify
from bearloop.client.reviews import Decision
from bearloop.client.views import PromotionView, ScreenView, VersionView
from bearloop.client.waiting import wait_until_ended
from bearloop.contract.imports import ZipSource
from tests.life.pictures import Shapes, recipe
from tests.life.platform import PATIENCE

SEED = 7
GATES = (
    {"kind": "minimum", "metric": "error", "split": "test", "at_most": 0.9},
    {"kind": "parity", "images": 8},
    {"kind": "not-worse-than-champion", "significance": 1e-9},
)


@dataclass(frozen=True)
class Trained:
    """A dataset, its first version, and a run on it that nobody disturbed."""

    shapes: Shapes
    dataset: str
    version: VersionView
    run: int
    bundle: str


def bring_in(client: Client, shapes: Shapes, dataset: str) -> VersionView:
    """Upload, import and freeze."""
    client.datasets.create(dataset, valid_share=0.0)
    upload = client.datasets.upload(dataset, shapes.zipped)
    started = client.datasets.start_import(dataset, ZipSource(upload=upload))
    ended = wait_until_ended(
        lambda: client.datasets.get_import(dataset, started.number), limit=PATIENCE
    )
    assert (ended.state, ended.stored) == ("done", len(shapes.files)), ended.why
    assert (ended.duplicates, ended.refused, ended.conflicts) == (0, 0, 0)
    return client.datasets.freeze(dataset)


def start_run(
    client: Client, dataset: str, version: int, *, seed: int = SEED, **asked: object
) -> int:
    """Queue a run; return its number."""
    whole = recipe().model_dump(mode="json")
    (run,) = client.runs.start(dataset, version, recipe=whole, seed=seed, device="cpu", **asked)
    return run.number


def await_run(client: Client, run: int) -> str:
    """Wait until a run is done; return its bundle's digest."""
    ended = wait_until_ended(lambda: client.runs.get(run), limit=PATIENCE)
    assert ended.state == "done", ended.why
    assert ended.bundle_digest is not None
    return ended.bundle_digest


def train(client: Client, shapes: Shapes, dataset: str) -> Trained:
    """Bring the pictures in and train on them."""
    version = bring_in(client, shapes, dataset)
    run = start_run(client, dataset, version.number)
    return Trained(shapes, dataset, version, run, await_run(client, run))


def judge(screen: ScreenView, shapes: Shapes) -> list[Decision]:
    """Decide on a screen as one who knows the truth."""
    return [
        Decision(image.sha256, "keep")
        if image.label == shapes.truth[image.sha256]
        else Decision(image.sha256, "relabel", shapes.truth[image.sha256])
        for image in screen.images
    ]


def await_promotion(client: Client, endpoint: str, number: int) -> PromotionView:
    """Wait until a promotion is live."""
    ended = wait_until_ended(lambda: client.endpoints.promotion(endpoint, number), limit=PATIENCE)
    assert ended.state in ("live", "replaced"), ended
    return ended


def promote(client: Client, endpoint: str, run: int) -> PromotionView:
    """Bring a run's bundle to the endpoint, through its gates."""
    return await_promotion(client, endpoint, client.endpoints.promote(endpoint, run).number)


def assert_answers_as_reported(
    client: Client,
    endpoint: str,
    *,
    run: int,
    shapes: Shapes,
    token: str,
    url: str | None = None,
) -> None:
    """Ask for stored test images; the answer is the run's report's, class by class."""
    url = url or client.endpoints.get(endpoint).url
    assert url is not None
    rows = [row for row in client.runs.images(run) if row["split"] == "test"][:4]
    assert rows
    for row in rows:
        picture = client.datasets.content(client.runs.report(run).dataset, row["sha256"])
        answer = classify(url, picture, token=token)
        assert answer["bundle"] == client.runs.get(run).bundle_digest
        said = {guess["class"]: guess["probability"] for guess in answer["predictions"]}
        reported = {guess["name"]: guess["probability"] for guess in row["top"]}
        assert set(said) == set(reported) == set(client.runs.report(run).classes)
        assert all(abs(said[name] - reported[name]) <= 1e-3 for name in said), row["sha256"]
        assert answer["class"] == row["predicted"]
    assert {shapes.truth[row["sha256"]] for row in rows} <= set(client.runs.report(run).classes)
