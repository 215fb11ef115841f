"""A life, told to the API by its SDK: a project, pictures in, a profile, a frozen version.

`life.py [--train]`; reads BEARLOOP_URL and BEARLOOP_TOKEN. `--train` trains on them, on CPU.
"""

import io
import os
import sys
import zipfile
from collections.abc import Iterator
from time import strftime

from PIL import Image, ImageDraw

from bearloop.client import Client
from bearloop.client.connection import Connection
from bearloop.contract.imports import ZipSource
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import CacheStage, EvaluateStage, FitStage, Recipe

PICTURES = 12
"""Of each class."""
SIDE = 64
"""Pixels."""
DATASET = "shapes"


def main() -> None:
    """Tell the life; any step that fails ends it with what the API said."""
    url, token = os.environ["BEARLOOP_URL"], os.environ["BEARLOOP_TOKEN"]
    project = f"helm-test-{strftime('%Y%m%d-%H%M%S')}"
    connection = Connection(url, token)
    connection.post("/v1/projects", {"name": project})
    print(f"project {project}")
    client = Client(url, token, project=project)
    client.datasets.create(DATASET)
    upload = client.datasets.upload(DATASET, zipped())
    started = client.datasets.start_import(DATASET, ZipSource(upload=upload))
    ended = client.datasets.wait_for_import(DATASET, started.number)
    print(f"import {started.number}: {ended.stored} pictures; {client.datasets.profile(DATASET)}")
    if ended.stored != 2 * PICTURES:
        sys.exit(f"import {started.number} stored {ended.stored} of {2 * PICTURES} pictures")
    version = client.datasets.freeze(DATASET)
    print(f"version {version.number}: {version.digest}")
    if "--train" in sys.argv:
        train(client, version.number)
    client.close()


def train(client: Client, version: int) -> None:
    """Train a small model from nothing; what it learns is not the question."""
    recipe = Recipe(
        name="helm-test",
        model="resnet18",
        weights="none",
        preprocess=Preprocess(size=SIDE),
        precision="fp32",
        stages=(
            CacheStage(presize=SIDE),
            FitStage(name="whole", epochs=2, lr=3e-3),
            EvaluateStage(folds=2),
        ),
    )
    whole = recipe.model_dump(mode="json")
    (run,) = client.runs.start(DATASET, version, recipe=whole, device="cpu")
    print(f"run {run.number}: {client.runs.wait(run.number).state}")


def zipped() -> bytes:
    """Return a zip with a folder of pictures for each class."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, picture in pictures():
            archive.writestr(name, picture)
    return file.getvalue()


def pictures() -> Iterator[tuple[str, bytes]]:
    """Draw discs and boxes; no two are alike, so that none is a duplicate."""
    for number in range(PICTURES):
        for name in ("disc", "box"):
            picture = Image.effect_noise((SIDE, SIDE), 40 + number).convert("RGB")
            pen = ImageDraw.Draw(picture)
            draw = pen.ellipse if name == "disc" else pen.rectangle
            start, size = 4 + number, 20 + 2 * number
            colour = (20 * number, 250 - 20 * number, 60 + 90 * (number % 3))
            draw((start, start, start + size, start + size), fill=colour)
            content = io.BytesIO()
            picture.save(content, "PNG")
            yield f"{name}/{number}.png", content.getvalue()


if __name__ == "__main__":
    main()
