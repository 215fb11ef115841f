"""Five epochs of the head by `precompute` beside fastai's five frozen epochs: time and error.

    python benchmarks/precompute.py FOLDER WEIGHTS PEER [--model resnet18] [--seeds 5] [--timed 2]

Folds, batches and rates as in against_fastai.py; one view on both sides, not augmented. The body's
pass, decoding and validation are in the time; what decoding and the pass alone take is told beside.
"""

import ours
from comparison import Tally, asking, fastai
from figures import beside_the_pass
from pictures import labelled
from theirs import BEST

from api.runs.named_recipes import PRECOMPUTE

EPOCHS = 5


def main() -> None:
    given = asking(__doc__).parse_args()
    pictures = labelled(given.folder)
    recipe = ours.changed(PRECOMPUTE, weights=given.weights, epochs=EPOCHS, model=given.model)
    done = Tally()
    with fastai(given, f"--epochs={EPOCHS}", "--lr=2e-3", "--plain") as peer:
        for fold in range(given.seeds):
            done.note("bearloop", ours.fit(pictures, recipe, fold=fold))
            done.note("fastai, best", peer.train(pictures, "frozen", *BEST, fold=fold))
            if fold < given.timed:
                done.note("fastai, defaults", peer.train(pictures, "frozen", fold=fold))
    done.show(["bearloop"])
    print(f"bearloop takes {beside_the_pass(done['bearloop']):.2f} x decoding and the body's pass")


if __name__ == "__main__":
    main()
