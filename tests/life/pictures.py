"""A tiny set of coloured shapes with some wrong labels, and a recipe that learns it in seconds."""

import hashlib
import io
import random
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    Augment,
    CacheStage,
    EvaluateStage,
    FitStage,
    Recipe,
)

SIDE = 32
"""Pixels."""
SHAPES = {"circle": (200, 70, 70), "square": (70, 180, 80), "triangle": (80, 90, 200)}
"""Class -> its colour, more or less."""
SHARES = {"train": 24, "valid": 10, "test": 6}
"""Pictures of each class by split."""
FLIPPED = 0.1
"""Share of wrong labels in train and valid."""


@dataclass(frozen=True)
class Shapes:
    """The pictures, packed as they are uploaded, and what is known of them."""

    zipped: bytes
    files: Mapping[str, bytes]
    """`split/class/number.png` -> bytes."""
    truth: Mapping[str, str]
    """Sha256 -> true class."""
    planted: frozenset[str]
    """Sha256 of the pictures under a wrong label."""


def shapes(*, seed: int = 1, shares: Mapping[str, int] | None = None) -> Shapes:
    """Draw the set; the same seed draws the same bytes."""
    dice = random.Random(seed)
    files: dict[str, bytes] = {}
    truth: dict[str, str] = {}
    planted = set()
    for split, count in (shares or SHARES).items():
        for name in SHAPES:
            for number in range(count):
                data = _draw(name, dice)
                wrong = split != "test" and dice.random() < FLIPPED
                label = dice.choice([other for other in SHAPES if other != name])
                files[f"{split}/{label if wrong else name}/{name}-{number}.png"] = data
                sha256 = hashlib.sha256(data).hexdigest()
                truth[sha256] = name
                planted |= {sha256} if wrong else set()
    return Shapes(_zipped(files), files, truth, frozenset(planted))


def recipe(*, epochs: int = 2) -> Recipe:
    """From scratch, without augmentation but the crop: whole in a few seconds on one core."""
    return Recipe(
        name="shapes",
        model="resnet18",
        weights="none",
        preprocess=Preprocess(size=SIDE),
        augment=Augment(flip=False, max_warp=0.0, min_scale=0.85),
        batch_size=8,
        precision="fp32",
        stages=(
            CacheStage(presize=36),
            FitStage(name="whole", epochs=epochs, lr=2e-3),
            EvaluateStage(folds=2, tta_views=0),
        ),
    )


def _draw(name: str, dice: random.Random) -> bytes:
    ground = tuple(dice.randrange(40, 90) for _ in range(3))
    colour = tuple(channel + dice.randrange(-30, 30) for channel in SHAPES[name])
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    left, top = dice.randrange(2, 8), dice.randrange(2, 8)
    right, bottom = left + dice.randrange(16, 22), top + dice.randrange(16, 22)
    draw = ImageDraw.Draw(picture)
    if name == "circle":
        draw.ellipse((left, top, right, bottom), fill=colour)
    elif name == "square":
        draw.rectangle((left, top, right, bottom), fill=colour)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=colour)
    # Noise, so that no picture is a near duplicate of another.
    noise = np.random.default_rng(dice.randrange(2**32)).integers(-40, 40, (SIDE, SIDE, 3))
    pixels = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return written.getvalue()
