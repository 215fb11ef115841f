"""The contact sheet: pictures as stored, and as a recipe's training shows them."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select

from api.database import Database
from api.runs.contact_sheets import GAP, TILE
from api.runs.named_recipes import FROM_SCRATCH, FULL_DATA, PRECOMPUTE, PROGRESSIVE_RESIZE
from api.tables import DatasetImage
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import FeaturesStage
from bearloop.preprocess import read_picture, to_pixels
from bearloop.store import FolderStore
from tests.api.imports.jobs import Worker, make_bears

COLOURS = {"black": (20, 20, 30), "grizzly": (150, 90, 40)}


@pytest.fixture
def sheet(client: TestClient, database: Database, store: FolderStore, tmp_path: Path) -> str:
    """Four pictures of two classes, imported; the sheet's path."""
    for name, colour in COLOURS.items():
        (tmp_path / "bears" / name).mkdir(parents=True)
        for number in range(2):
            noise = np.random.default_rng([number, *colour]).integers(0, 60, (90, 120, 3))
            picture = Image.fromarray((noise + colour).astype(np.uint8))
            picture.save(tmp_path / "bears" / name / f"{number}.png")
    bears = make_bears(client)
    client.post(f"{bears}/imports", json={"kind": "folder", "uri": (tmp_path / "bears").as_uri()})
    Worker(database, store).work()
    return f"{bears}/contact-sheet.png"


def drawn(client: TestClient, path: str, **asked: object) -> np.ndarray:
    answer = client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def width(pictures: int) -> int:
    """Of a sheet of so many pictures, one beside the other."""
    return pictures * (TILE + GAP) + GAP


def test_stored_pictures_are_shown_whole_and_the_same_again(client: TestClient, sheet: str) -> None:
    shown = drawn(client, sheet)
    assert shown.shape[1] == width(4)
    np.testing.assert_array_equal(shown, drawn(client, sheet))
    middle = shown[GAP + TILE // 2, GAP + TILE // 2 :: TILE + GAP]
    dark = sorted(int(pixel.mean()) for pixel in middle)
    assert dark[1] < 100 < dark[2]
    # A wide picture leaves white above it.
    assert (shown[GAP + 2, GAP : GAP + TILE] == 255).all()


def test_class_split_and_number_choose(client: TestClient, sheet: str) -> None:
    black = drawn(client, sheet, **{"class": "black"})
    assert black.shape[1] == width(2)
    assert black[GAP + TILE // 2, GAP + TILE // 2].mean() < 100
    assert drawn(client, sheet, n=1).shape[1] == width(1)
    assert (drawn(client, sheet, split="valid") == 255).all()
    client.post(f"{sheet.rpartition('/')[0]}/versions")
    assert drawn(client, sheet, split="train").shape[1] > TILE


def test_a_recipe_changes_the_pictures_as_the_seed_says(client: TestClient, sheet: str) -> None:
    client.post(f"{sheet.rpartition('/')[0]}/versions")
    changed = drawn(client, sheet, recipe=FROM_SCRATCH.name, seed=1)
    np.testing.assert_array_equal(changed, drawn(client, sheet, recipe=FROM_SCRATCH.name, seed=1))
    other = drawn(client, sheet, recipe=FROM_SCRATCH.name, seed=2)
    assert (changed != other).any()
    # The model's input is square: nothing is white but the lines between and the names.
    assert (changed[GAP : GAP + TILE, GAP : GAP + TILE] < 255).all()
    assert (changed != drawn(client, sheet, seed=1, split="train")).any()


def pixels_of(tile: np.ndarray, side: int) -> np.ndarray:
    """Read the pixels of a small picture, each of which is a square of the first place."""
    times = TILE // side
    shown = tile[GAP : GAP + TILE, GAP : GAP + TILE].reshape(side, times, side, times, 3)
    assert (shown == shown[:, :1, :, :1]).all()
    return shown[:, 0, :, 0]


def test_what_feeds_a_head_with_one_view_is_shown_plain(
    client: TestClient, sheet: str, tmp_path: Path
) -> None:
    small = Preprocess(size=64)
    plain = PRECOMPUTE.model_copy(update={"name": "plain", "preprocess": small})
    cache, _, *others = plain.stages
    views = {"name": "views", "stages": (cache, FeaturesStage(views=2), *others)}
    for recipe in (plain, plain.model_copy(update=views)):
        body = recipe.model_dump(mode="json")
        assert client.post("/v1/projects/zoo/recipes", json=body).status_code == 201
    asked = {"class": "black", "n": 1}
    found = pixels_of(drawn(client, sheet, recipe="plain", **asked), 64)
    files = (tmp_path / "bears" / "black").glob("*.png")
    served = [to_pixels(read_picture(file.read_bytes()), small) for file in files]
    assert sum((found == pixels).all() for pixels in served) == 1
    changed = pixels_of(drawn(client, sheet, recipe="views", **asked), 64)
    assert not any((changed == pixels).all() for pixels in served)


def test_pictures_are_as_large_as_the_first_stage_shows_them(
    client: TestClient, sheet: str
) -> None:
    small = drawn(client, sheet, recipe=PROGRESSIVE_RESIZE.name, n=1)
    assert len(np.unique(pixels_of(small, 64))) > 1
    assert PROGRESSIVE_RESIZE.preprocess.size > 64


def test_a_recipe_shows_what_it_learns_from(
    client: TestClient, sheet: str, database: Database
) -> None:
    learnt = {"recipe": FROM_SCRATCH.name}
    with database.transaction() as session:
        query = select(DatasetImage).order_by(DatasetImage.class_id, DatasetImage.sha256)
        valid, conflict, train, removed = session.scalars(query)
        valid.split, removed.removed = "valid", True
        train.split = conflict.split = removed.split = "train"
        conflict.state, conflict.class_id = "conflict", None
    shown = drawn(client, sheet, **learnt)
    assert shown.shape[1] == width(1)
    # The brown one is trained on, the black one is not, and asked for it is shown all the same.
    np.testing.assert_array_equal(shown, drawn(client, sheet, split="train", **learnt))
    apart = drawn(client, sheet, split="valid", **learnt)
    assert apart[: GAP + TILE].mean() < shown[: GAP + TILE].mean()
    assert drawn(client, sheet, recipe=FULL_DATA.name).shape[1] == width(2)
    assert drawn(client, sheet).shape[1] == width(3)


def test_a_recipe_without_a_picture_to_learn_from_is_refused_in_words(
    client: TestClient, sheet: str, database: Database
) -> None:
    def refused(**asked: str) -> tuple[str, str]:
        answer = client.get(sheet, params={"recipe": FROM_SCRATCH.name, **asked})
        assert (answer.status_code, answer.json()["code"]) == (422, "nothing_to_draw"), answer.text
        return answer.json()["detail"], answer.json()["way_out"]

    # The next freeze may put all of them into train.
    assert drawn(client, sheet, recipe=FROM_SCRATCH.name).shape[1] == width(4)
    client.post(f"{sheet.rpartition('/')[0]}/versions")
    detail, way_out = refused(split="test", **{"class": "black"})
    assert detail == (
        "bears has no labelled test image of the class 'black' to show as from-scratch would"
    )
    assert "another split" in way_out
    with database.transaction() as session:
        for image in session.scalars(select(DatasetImage)):
            image.split = "valid"
    detail, _ = refused()
    assert detail == "bears has no labelled train image to show as from-scratch would"


def test_a_run_shows_its_own_dataset_by_what_it_was_told(client: TestClient, sheet: str) -> None:
    bears = sheet.rpartition("/")[0]
    client.post(f"{bears}/versions")
    told = {"augment": {"max_rotate": 45, "max_zoom": 1.5}, "resize": "pad", "seed": 7}
    asked = {"dataset": "bears", "recipe": FROM_SCRATCH.name, "train_on": "all", **told}
    answer = client.post("/v1/projects/zoo/runs", json=asked)
    assert answer.status_code == 202, answer.text
    recipe = client.get("/v1/projects/zoo/runs/1/spec").json()["recipe"]
    stored = client.post("/v1/projects/zoo/recipes", json={**recipe, "name": "told"})
    assert stored.status_code == 201, stored.text

    of_run = drawn(client, sheet, run=1)
    np.testing.assert_array_equal(of_run, drawn(client, sheet, recipe="told", seed=7))
    of_train = drawn(client, sheet, run=1, split="train")
    assert (of_train != drawn(client, sheet, recipe=FROM_SCRATCH.name, seed=7)).any()
    another = drawn(client, sheet, run=1, seed=1)
    np.testing.assert_array_equal(another, drawn(client, sheet, recipe="told", seed=1))

    client.post("/v1/projects/zoo/datasets", json={"name": "birds"})
    of_birds = client.get(f"{sheet.replace('bears', 'birds')}?run=1")
    assert (of_birds.status_code, of_birds.json()["code"]) == (404, "unknown_run")
    assert "of the dataset bears" in of_birds.json()["detail"]


def test_what_is_not_there_is_named(client: TestClient, sheet: str) -> None:
    wrong = {
        "recipe=none-such": (422, "unknown_recipe"),
        "run=9": (404, "unknown_run"),
        "recipe=fine-tune&run=1": (422, "malformed"),
        "class=polar": (404, "unknown_class"),
        "split=both": (422, "malformed"),
        "n=61": (422, "malformed"),
        "colour=red": (422, "malformed"),
    }
    for query, expected in wrong.items():
        answer = client.get(f"{sheet}?{query}")
        assert (answer.status_code, answer.json()["code"]) == expected, query
    assert client.get(sheet.replace("bears", "birds")).json()["code"] == "unknown_dataset"


def test_a_long_name_is_cut_to_its_picture(client: TestClient, sheet: str) -> None:
    bears = sheet.rpartition("/")[0]
    first = client.get(f"{bears}/classes").json()["items"][0]["id"]
    client.patch(f"{bears}/classes/{first}", json={"name": "bear " * 30 + "black"})
    assert drawn(client, sheet).shape[1] == width(4)
