"""`bearloop demo --data`: the life of somebody's own photographs, with a person in the middle."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from bearloop.client import Client
from bearloop.client.reviews import Decision
from bearloop.client.views import ReviewView
from bearloop.demo import own
from bearloop.demo.clock import Clock
from bearloop.local import Plan
from tests.life.pictures import shapes
from tests.life.platform import Up

Person = Callable[[ReviewView], object]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    for name, data in shapes(seed=5, shares={"train": 20}).files.items():
        _, label, file = name.split("/")
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / file).write_bytes(data)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> str:
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path.as_uri()


def tell(client: Client, up: Up, data: Path, *, weights: str, person: Person) -> ReviewView:
    """Tell the life; the person acts when the page is opened. Returns the review."""
    pages: list[str] = []

    def open_page(page: str) -> None:
        pages.append(page)
        person(client.reviews.get(int(page.rpartition("/")[2])))

    plan = Plan(up.folder, up.port, up.tracking_port, say=print)
    here = own.Here(plan, revive=lambda: None, open_page=open_page)
    training = {"model": "resnet18", "weights": weights, "size": 32, "epochs": 1}
    own.tell(client, data, training=training, here=here, clock=Clock())
    (page,) = pages
    return client.reviews.get(int(page.rpartition("/")[2]))


@pytest.mark.long
def test_the_demo_goes_on_when_the_person_has_closed_the_review(
    up: Up,
    client: Client,
    photographs: Path,
    weights: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def corrects_one(review: ReviewView) -> None:
        screen = client.reviews.claim(review.number)
        first, *others = screen.images
        right = next(name for name in screen.choices if name != first.label)
        said = [Decision(first.sha256, "relabel", right)]
        said += [Decision(image.sha256, "keep") for image in others]
        client.reviews.decide(review.number, screen.screen or "", said)
        # As on the page where nobody ticks the box: to train again is left to the demo.
        client.reviews.close(review.number)

    review = tell(client, up, photographs, weights=weights, person=corrects_one)
    streams = capsys.readouterr()
    assert f"{up.url}/review/{client.project}/{review.number}" in streams.err
    assert str(up.folder / "login.json") in streams.err
    rows = {" ".join(line.split()) for line in streams.out.splitlines()}
    assert {"images 60", "labels corrected 1", "images looked at 5 of 60"} <= rows
    assert any(row.startswith("error on valid after") for row in rows), rows
    after = next(client.runs.list())
    assert (after.dataset, after.version) == (review.dataset, review.cleaned_version)
    assert client.endpoints.get(review.dataset).bundle == after.bundle_digest


@pytest.mark.long
def test_nothing_is_trained_again_where_no_label_was_changed(
    up: Up, client: Client, photographs: Path, weights: str
) -> None:
    # What a demo before this one left stays as it is: this one takes another name.
    before = {dataset.name for dataset in client.datasets.list()}
    review = tell(
        client,
        up,
        photographs,
        weights=weights,
        person=lambda review: client.reviews.close(review.number),
    )
    assert review.dataset not in before
    runs = [run for run in client.runs.list() if run.dataset == review.dataset]
    assert [run.number for run in runs] == [review.run]
    assert client.endpoints.get(review.dataset).bundle == runs[0].bundle_digest
