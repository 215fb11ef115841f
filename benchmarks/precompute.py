"""Five epochs of the head by `precompute` beside fastai's five frozen epochs: time and error.

    python benchmarks/precompute.py FOLDER WEIGHTS PEER [--model resnet18] [--seeds 5] [--timed 2]

Folds, batches and rates as in against_fastai.py; one view on both sides, not augmented. The body's
pass, decoding and validation are in the time. How long the pass alone takes is read off the same
recipe with one epoch, which costs what five do less four of the head.
"""

import ours
from comparison import Tally, asking, fastai
from figures import faster
from pictures import labelled
from theirs import BEST

from api.runs.named_recipes import PRECOMPUTE

EPOCHS = 5


def main() -> None:
    given = asking(__doc__).parse_args()
    pictures = labelled(given.folder)
    recipe = ours.changed(PRECOMPUTE, weights=given.weights, epochs=EPOCHS, model=given.model)
    once = ours.changed(recipe, weights=given.weights, epochs=1)
    done = Tally()
    with fastai(given, f"--epochs={EPOCHS}", "--lr=2e-3", "--plain") as peer:
        for fold in range(given.seeds):
            done.note("bearloop", ours.fit(pictures, recipe, fold=fold))
            done.note("bearloop, one epoch", ours.fit(pictures, once, fold=fold))
            done.note("fastai, best", peer.train(pictures, "frozen", *BEST, fold=fold))
            if fold < given.timed:
                done.note("fastai, defaults", peer.train(pictures, "frozen", fold=fold))
    done.show(["bearloop"])
    longer = faster(done["bearloop, one epoch"], done["bearloop"])
    print(f"five epochs take {longer:.2f} x the time of one")


if __name__ == "__main__":
    main()
