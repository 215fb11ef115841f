"""Small versions made of generated pictures, in a folder store."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torchvision
from PIL import Image

from bearloop.contract.jobs import spec_key
from bearloop.contract.manifest import ManifestRow, manifest_digest
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    NO_AUGMENT,
    CacheStage,
    EvaluateStage,
    FitStage,
    Flat,
    Recipe,
    Stage,
)
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import SplitName
from bearloop.contract.runs import RunSpec
from bearloop.manifest_file import write_manifest
from bearloop.store import Store, image_key

Picture = tuple[bytes, int | None, SplitName]
"""Original bytes, class index (None for a conflict), split."""
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 230))


def picture(label: int, number: int, *, size: tuple[int, int] = (40, 32)) -> bytes:
    """A noisy picture of the class's colour, as PNG; `number` makes it unlike the others."""
    random = np.random.default_rng([label, number])
    noise = random.integers(-35, 35, (size[1], size[0], 3))
    pixels = (np.asarray(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
    return png(pixels)


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 [height, width, 3] without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(*, train: int, valid: int, classes: int = 3) -> list[Picture]:
    """So many pictures of each class."""
    rows: list[Picture] = []
    for label in range(classes):
        for number in range(train + valid):
            split: SplitName = "train" if number < train else "valid"
            rows.append((picture(label, number), label, split))
    return rows


def class_entries(names: Sequence[str]) -> tuple[ClassEntry, ...]:
    """Classes whose ids are not their places, so that a test sees one taken for the other."""
    return tuple(
        ClassEntry(id=70 + 10 * position, name=name, position=position)
        for position, name in enumerate(names)
    )


def put_version(
    store: Store,
    rows: Sequence[Picture],
    *,
    recipe: Recipe,
    names: Sequence[str] = ("red", "green", "blue"),
    job: str = "job-1",
    seed: int = 42,
) -> RunSpec:
    """Store pictures, manifest and the job's specification, which is returned."""
    classes = class_entries(names)
    manifest = [_row(store, picture, classes) for picture in rows]
    digest = manifest_digest(classes, manifest)
    key = f"versions/{digest}/manifest.parquet"
    store.put(key, write_manifest(manifest))
    spec = RunSpec(
        job=job,
        project="forest",
        run=1,
        version_digest=digest,
        manifest_key=key,
        classes=classes,
        recipe=recipe,
        seed=seed,
        device="cpu",
        code_version="0.1.0",
    )
    put_spec(store, spec)
    return spec


def put_spec(store: Store, spec: RunSpec) -> None:
    store.put(spec_key(spec.job), json.dumps(spec.model_dump(mode="json")).encode())


def put_weights(folder: Path) -> str:
    """Write weights that resnet18 may begin with; returns their address."""
    file = folder / "resnet18.safetensors"
    safetensors.torch.save_file(torchvision.models.resnet18().state_dict(), file)
    return file.as_uri()


def recipe(*stages: Stage, **changes: object) -> Recipe:
    """The smallest recipe: from nothing on 32 x 32, fp32, a model whose steps are quick."""
    fields = {
        "name": "small",
        "model": "shufflenet_v2_x0_5",
        "weights": "none",
        "preprocess": Preprocess(size=32),
        "augment": NO_AUGMENT,
        "batch_size": 8,
        "dropout": 0.0,
        "precision": "fp32",
        "stages": stages or (CacheStage(presize=32), whole(2), EvaluateStage(folds=2, tta_views=0)),
    }
    return Recipe.model_validate({**fields, **changes})


def resnet(*stages: Stage, **changes: object) -> Recipe:
    """The smallest recipe of a resnet18: for who asks for its layers, or weights for them."""
    return recipe(*stages, model="resnet18", **changes)


def whole(epochs: int, **changes: object) -> FitStage:
    """A stage that trains all layer groups at one rate."""
    fields = {"name": "whole", "epochs": epochs, "schedule": Flat(), "lr": 1e-3}
    return FitStage.model_validate({**fields, **changes})


def _row(store: Store, picture: Picture, classes: Sequence[ClassEntry]) -> ManifestRow:
    data, label, split = picture
    sha = hashlib.sha256(data).hexdigest()
    store.put(image_key(sha), data)
    return ManifestRow(
        sha256=sha,
        label=None if label is None else classes[label].id,
        state="conflict" if label is None else "labelled",
        split=split,
        group=sha,
        fold=int(sha, 16) % 60,
    )
