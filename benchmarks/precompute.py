"""Five epochs of the head by `precompute` beside fastai's five frozen epochs: time and error.

    python benchmarks/precompute.py FOLDER WEIGHTS PEER [--model resnet18] [--seeds 5] [--timed 2]

Folds, batches and rates as in against_fastai.py; one view on both sides, not augmented. The body's
pass, decoding and validation are in the time. How long the pass alone takes is read off the same
recipe with one epoch, which costs what five do less four of the head.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import ours
import theirs
from figures import Trained, error, faster, seconds
from pictures import labelled

from api.runs.named_recipes import PRECOMPUTE

EPOCHS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--model", default="resnet18", choices=theirs.CHECKPOINTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timed", type=int, default=2)
    given = parser.parse_args()
    pictures = labelled(given.folder)
    recipe = ours.changed(PRECOMPUTE, weights=given.weights, epochs=EPOCHS, model=given.model)
    once = ours.changed(recipe, weights=given.weights, epochs=1)
    options = (f"--model={given.model}", f"--epochs={EPOCHS}", "--lr=2e-3", "--plain")
    done: dict[str, list[Trained]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        home = theirs.torch_home(given.weights, given.model, Path(scratch, "torch"))

        def note(name: str, trained: Trained) -> None:
            done[name].append(trained)
            print(f"seed {len(done[name])}, {name}: {trained}", flush=True)

        for fold in range(given.seeds):
            note("bearloop", ours.fit(pictures, recipe, fold=fold))
            note("bearloop, one epoch", ours.fit(pictures, once, fold=fold))
            peer = {"home": home, "fold": fold}
            best = (*options, *theirs.BEST)
            note("fastai, best", theirs.train(given.peer, pictures, "frozen", options=best, **peer))
            if fold < given.timed:
                told = theirs.train(given.peer, pictures, "frozen", options=options, **peer)
                note("fastai, defaults", told)
    print(f"\n{'':20} seconds   error")
    for name, trained in done.items():
        print(f"{name:20} {seconds(trained):7.1f}   {error(trained)}")
    for peer in ("fastai, defaults", "fastai, best"):
        print(f"five epochs are {faster(done['bearloop'], done[peer]):.2f} x as fast as {peer}")
    longer = faster(done["bearloop, one epoch"], done["bearloop"])
    print(f"five epochs take {longer:.2f} x the time of one")


if __name__ == "__main__":
    main()
