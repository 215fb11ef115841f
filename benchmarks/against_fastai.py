"""`fine-tune(2, freeze 2)` beside fastai's on the same pictures and splits: error and time.

    python benchmarks/against_fastai.py FOLDER WEIGHTS PEER [--model resnet18] [--seeds 5]

FOLDER holds a folder of pictures per class, WEIGHTS is torchvision's file (`.pth` or `.pth.xz`),
PEER a Python that has fastai (an environment of its own). Seed s holds out fold s of five, so five
seeds measure every picture once. Both sides take the same augmentation, batches of 32 and the same
schedule and rates; the time is that of training with decoding, validation and our cache in it, and
begins from files as they lie there. All seeds are trained by both at their best, the first
`--timed` with fastai at its defaults and ourselves in fp32, too.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import ours
import theirs
from figures import Trained, error, faster, seconds
from pictures import labelled

from api.runs.named_recipes import FINE_TUNE
from bearloop.contract.recipes import FitStage, Recipe

FROZEN = 2
"""Epochs of the head alone; the others are `--epochs`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--model", default="resnet18", choices=theirs.CHECKPOINTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timed", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    pictures = labelled(given.folder)
    recipe = like_fastai(given.model, given.weights, epochs=given.epochs)
    options = (f"--model={given.model}", f"--epochs={given.epochs}")
    done: dict[str, list[Trained]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        home = theirs.torch_home(given.weights, given.model, Path(scratch, "torch"))

        def note(name: str, trained: Trained) -> None:
            done[name].append(trained)
            print(f"seed {len(done[name])}, {name}: {trained}", flush=True)

        for fold in range(given.seeds):
            note("bearloop", ours.fit(pictures, recipe, fold=fold))
            peer = {"home": home, "fold": fold}
            best = (*options, *theirs.BEST)
            note(
                "fastai, best",
                theirs.train(given.peer, pictures, "fine-tune", options=best, **peer),
            )
            if fold < given.timed:
                fp32 = recipe.model_copy(update={"precision": "fp32"})
                note("bearloop, fp32", ours.fit(pictures, fp32, fold=fold))
                told = theirs.train(given.peer, pictures, "fine-tune", options=options, **peer)
                note("fastai, defaults", told)
    show(done, epochs=given.epochs + FROZEN)


def like_fastai(model: str, weights: Path, *, epochs: int) -> Recipe:
    """Return our `fine-tune` with fastai's rates: 1 % of the head's for the first layers."""
    recipe = ours.changed(FINE_TUNE, weights=weights, epochs=epochs, model=model)
    stages = [
        stage.model_copy(update={"lr_body": stage.rate / 100})
        if isinstance(stage, FitStage) and stage.lr_body is not None
        else stage
        for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": tuple(stages)})


def show(done: Mapping[str, Sequence[Trained]], *, epochs: int) -> None:
    """Print the table, and the ratios of the times."""
    print(f"\n{'':20} seconds an epoch   error")
    for name, trained in done.items():
        print(f"{name:20} {seconds(trained) / epochs:16.1f}   {error(trained)}")
    for mine in ("bearloop", "bearloop, fp32"):
        for peer in ("fastai, defaults", "fastai, best"):
            if mine in done and peer in done:
                print(f"{mine} is {faster(done[mine], done[peer]):.2f} x as fast as {peer}")


if __name__ == "__main__":
    main()
