"""`fine-tune(2, freeze 2)` beside fastai's on the same pictures and splits: error and time.

    python benchmarks/against_fastai.py FOLDER WEIGHTS PEER [--model resnet18] [--seeds 5]

FOLDER holds a folder of pictures per class, WEIGHTS is torchvision's file (`.pth` or `.pth.xz`),
PEER a Python that has fastai (an environment of its own). Seed s holds out fold s of five, so five
seeds measure every picture once. Both sides cut the middle of a picture and take the same
augmentation, batches of 32 and the same schedule and rates; the time is that of training with
decoding, validation and our cache in it, and begins from files as they lie there. All seeds are
trained by both at their best, the first `--timed` with fastai at its defaults and ourselves in
fp32, too.
"""

from pathlib import Path

import ours
from comparison import Tally, asking, fastai
from pictures import labelled
from theirs import BEST

from api.runs.named_recipes import FINE_TUNE
from bearloop.contract.recipes import FitStage, Recipe

FROZEN = 2
"""Epochs of the head alone; the others are `--epochs`."""


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    pictures = labelled(given.folder)
    recipe = like_fastai(given.model, given.weights, epochs=given.epochs)
    fp32 = recipe.model_copy(update={"precision": "fp32"})
    done, mine = Tally(), ["bearloop"]
    with fastai(given, f"--epochs={given.epochs}") as peer:
        for fold in range(given.seeds):
            done.note("bearloop", ours.fit(pictures, recipe, fold=fold))
            done.note("fastai, best", peer.train(pictures, "fine-tune", *BEST, fold=fold))
            if fold < given.timed:
                mine = ["bearloop", "bearloop, fp32"]
                done.note("bearloop, fp32", ours.fit(pictures, fp32, fold=fold))
                done.note("fastai, defaults", peer.train(pictures, "fine-tune", fold=fold))
    done.show(mine, epochs=given.epochs + FROZEN)


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


if __name__ == "__main__":
    main()
