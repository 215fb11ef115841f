"""The demo's pictures: 1,797 handwritten digits from scikit-learn's wheel, as PNG class folders.

Source: E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; CC BY 4.0.
"""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 32
"""Pixels; the originals have 8, each becomes a square of 4."""
FLIPPED = 0.05
SHARES = {"test": 0.2, "valid": 0.16, "train": 0.64}


@dataclass(frozen=True)
class Digits:
    """What was written out, and what is known of it."""

    folder: Path
    truth: dict[str, str]
    """The true class of every picture, by sha256 of its file."""
    planted: frozenset[str]
    """Sha256 of the pictures whose label was flipped."""


def write_digits(folder: Path, *, seed: int = 42) -> Digits:
    """Write `train|valid|test/<class>/<n>.png`, with 5 % of train's and valid's labels flipped."""
    from sklearn.datasets import load_digits  # slow to import, and the demo's only

    bunch = load_digits()
    chance = random.Random(seed)
    truth: dict[str, str] = {}
    planted: set[str] = set()
    for number, (pixels, target) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        split = chance.choices(list(SHARES), list(SHARES.values()))[0]
        name = label = NAMES[target]
        flip = split != "test" and chance.random() < FLIPPED
        if flip:
            label = chance.choice([other for other in NAMES if other != name])
        path = folder / split / label / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).resize(
            (SIDE, SIDE), Image.Resampling.NEAREST
        ).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        truth[sha256] = name
        planted |= {sha256} if flip else set()
    return Digits(folder, truth, frozenset(planted))
