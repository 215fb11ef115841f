"""The training loop on real pictures beside the same loop on one batch that is always there.

    python benchmarks/loop.py FOLDER WEIGHTS [--model resnet18] [--rounds 5] [--give-back]

Two constants are the peers: a batch of presized pixels, changed at random as the real ones are, and
a batch that the network takes as it is. Each round trains so many steps with each, in turns; the
ratio is of the medians.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import ours
from numpy.typing import NDArray
from pictures import labelled

from api.runs.named_recipes import FINE_TUNE
from bearloop.store import FolderStore
from trainer.allocator import keep_freed_memory
from trainer.cache import open_pixels
from trainer.data import load_items, taught
from trainer.device import choose_device, make_deterministic
from trainer.model import freeze_to
from trainer.optimiser import new_optimiser
from trainer.predict import check_stages, new_model
from trainer.step import Lesson, Pictures, Place, Seen, train_epoch
from trainer.weights import load_weights


class Constant:
    """One batch, whichever rows are asked for; floats are taken as they are."""

    def __init__(self, pixels: Pictures) -> None:
        self.pixels = pixels

    def gather(self, indices: NDArray[np.int64]) -> Pictures:
        """Return as many rows, without a copy."""
        return self.pixels[: len(indices)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--give-back", action="store_true", help="freed memory, as glibc does")
    given = parser.parse_args()
    if not given.give_back:
        keep_freed_memory()
    make_deterministic()
    recipe = ours.changed(FINE_TUNE, weights=given.weights, model=given.model)
    stage = recipe.fits()[-1][1]
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch, "store")
        store.mkdir()
        spec = ours.put_version(labelled(given.folder), store, recipe=recipe, fold=0)
        spec = spec.model_copy(update={"device": "auto"})
        items = load_items(FolderStore(store), spec)
        presized, _ = open_pixels(
            FolderStore(store),
            items,
            evaluation=recipe.preprocess,
            presize=check_stages(recipe)[0].presize,
            folder=Path(scratch, "cache"),
            report=lambda *_: None,
        )
        device, side = choose_device(spec), recipe.preprocess.size
        model = new_model(spec, device, weights=load_weights(recipe))
        freeze_to(model, stage.frozen_to)
        optimiser = new_optimiser(model, stage)
        rows, labels = (part[: given.steps * recipe.batch_size] for part in taught(items, recipe))
        batch = presized.gather(rows[: recipe.batch_size])
        ready = np.moveaxis(
            np.random.default_rng(0).standard_normal((len(batch), side, side, 3), np.float32), 3, 1
        )
        times: dict[str, list[float]] = {"real": [], "constant pixels": [], "constant input": []}

        def epoch(seen: Seen, name: str) -> None:
            lesson = Lesson(recipe, stage, seen, rows, labels, spec.seed)
            place = Place(epoch=0, epochs=len(times[name]), batch=0, steps=0)
            began = time.monotonic()
            for _ in train_epoch(model, optimiser, lesson=lesson, place=place):
                pass
            times[name].append(time.monotonic() - began)

        for _ in range(given.rounds + 1):
            epoch(presized, "real")
            epoch(Constant(batch), "constant pixels")
            epoch(Constant(ready), "constant input")
    show({name: taken[1:] for name, taken in times.items()}, pictures=len(rows))


def show(times: dict[str, list[float]], *, pictures: int) -> None:
    """Print images a second, and how near the real loop comes."""
    for name, taken in times.items():
        share = median(taken) / median(times["real"])
        print(f"{name:16} {pictures / median(taken):7.1f} images/s, real is {share:.3f} of it")


if __name__ == "__main__":
    main()
