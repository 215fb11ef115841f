"""The lesson's four failures, each really caused on handwritten digits, and a run that is healthy.

`OMP_NUM_THREADS=1 python -m tests.trainer.failures` writes `tests/trainer/failures/*.json`: the
curves as the trainer made them, for the rules that name the failures.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    NO_AUGMENT,
    Augment,
    CacheStage,
    FitStage,
    LrFindStage,
    OneCycle,
    Recipe,
)
from bearloop.contract.runs import Curves
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.versions import Picture, png, put_version, resnet
from trainer.fit import fit

FOLDER = Path(__file__).parent / "failures"
SIDE = 16
"""Pixels: the originals have 8."""
TRAIN, VALID = 400, 200
AUGMENT = Augment(flip=False, max_warp=0.0, min_scale=0.85)
FAILURES: dict[str, tuple[int, Augment, dict[str, object]]] = {
    "healthy": (400, AUGMENT, {"epochs": 8, "lr": 5e-4}),
    "lr_too_high": (400, AUGMENT, {"epochs": 2, "lr": 0.5}),
    "lr_too_low": (400, AUGMENT, {"epochs": 5, "lr": 1e-5}),
    "too_few_epochs": (400, AUGMENT, {"epochs": 1, "lr": 5e-4}),
    "too_many_epochs": (
        160,
        NO_AUGMENT,
        {"epochs": 40, "lr": 5e-4, "weight_decay": 0.0},
    ),
}
"""Train images, augmentation, and the fit stage; forty epochs see a tenth of all digits."""
WRONG = 0.4
"""Share of the train labels that forty epochs learn by heart: what clean digits teach by heart is
right, and no seed's error rises by it for sure."""
KINDS = {"too_many_epochs": 4}
"""Of digits, where not all ten: so few are told apart before wrong labels are learnt by heart."""


def digits(train: int, *, wrong: float = 0.0, kinds: int = 10) -> list[Picture]:
    """So many digits to train on, some labelled as another, and always the same to validate."""
    bunch, random = load_digits(), np.random.default_rng(7)
    images, targets = bunch.images[bunch.target < kinds], bunch.target[bunch.target < kinds]
    rows: list[Picture] = []
    for number in range(train + VALID):
        place = number if number < train else TRAIN + number - train
        pixels = (images[place] * 255 / 16).astype(np.uint8)
        big = np.kron(pixels, np.ones((SIDE // 8, SIDE // 8), dtype=np.uint8))
        picture = png(np.repeat(big[:, :, None], 3, axis=2))
        label = int(targets[place])
        if number < train and random.random() < wrong:
            label = (label + int(random.integers(1, kinds))) % kinds
        rows.append((picture, label, "train" if number < train else "valid"))
    return rows


def recipe_of(name: str) -> Recipe:
    """The recipe that fails, or does not, in the named way."""
    _, augment, changes = FAILURES[name]
    # The rate of the healthy run is what this search suggests.
    search = [LrFindStage()] if name == "healthy" else []
    return resnet(
        CacheStage(presize=SIDE),
        *search,
        FitStage.model_validate({"name": "whole", "schedule": OneCycle(), **changes}),
        preprocess=Preprocess(size=SIDE),
        augment=augment,
        batch_size=32,
        dropout=0.0 if name == "too_many_epochs" else 0.25,
    )


def cause(name: str, folder: Path) -> Curves:
    """Train so that it fails in the named way, and return the curves."""
    store = FolderStore(folder / "store")
    kinds, wrong = KINDS.get(name, 10), WRONG if name == "too_many_epochs" else 0.0
    names = [str(digit) for digit in range(kinds)]
    rows = digits(FAILURES[name][0], wrong=wrong, kinds=kinds)
    spec = put_version(store, rows, recipe=recipe_of(name), names=names, job=name)
    run = open_run(store, spec, folder=folder / "cache")
    return fit(run, model_of(run), None).curves()


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in names or list(FAILURES):
        with tempfile.TemporaryDirectory() as folder:
            curves = cause(name, Path(folder))
        (FOLDER / f"{name}.json").write_bytes(curves.canonical())


if __name__ == "__main__":
    main(sys.argv[1:])
