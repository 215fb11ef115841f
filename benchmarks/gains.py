"""What progressive resizing, warm restarts and test-time augmentation each gain or lose.

    python benchmarks/gains.py FOLDER WEIGHTS [--model resnet18] [--seeds 5] [--size 224]

Folds as in against_fastai.py; the recipes as they are named, each by its plain answers and with
test-time augmentation, told beside the plain answers of `fine-tune` on the same pictures. As named,
progressive resizing ends at 299 pixels and the others train at 224; `--size` gives all of them one
size, so that what larger pictures gain is told apart from what growing ones do.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import ours
from figures import Trained, error, seconds
from pictures import labelled

from api.evaluation.comparison import mcnemar
from api.runs.named_recipes import FINE_TUNE, PROGRESSIVE_RESIZE, WARM_RESTARTS
from api.runs.recipes import Changes
from api.runs.recipes import changed as changed_for_a_run
from bearloop.contract.recipes import EvaluateStage

RECIPES = (FINE_TUNE, PROGRESSIVE_RESIZE, WARM_RESTARTS)
REPORT = EvaluateStage(folds=2)
"""Views as they are by default; labels are judged as little as may be."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int)
    given = parser.parse_args()
    pictures = labelled(given.folder)
    done: dict[str, list[Trained]] = defaultdict(list)
    wrong: dict[str, set[str]] = defaultdict(set)
    for fold in range(given.seeds):
        for named in RECIPES:
            sized = changed_for_a_run(named, Changes(size=given.size))
            own = ours.changed(sized, weights=given.weights, report=REPORT, model=given.model)
            trained, rows = ours.whole_run(pictures, own, fold=fold)
            viewed = {row.sha256 for row in rows if row.tta_predicted != row.label}
            wrong[named.name] |= {row.sha256 for row in rows if row.predicted != row.label}
            wrong[f"{named.name}, TTA"] |= viewed
            done[named.name].append(trained)
            done[f"{named.name}, TTA"].append(trained._replace(wrong=len(viewed)))
            print(f"seed {fold + 1}, {named.name}: {trained}, {len(viewed)} by TTA", flush=True)
    print(f"\n{'':26} seconds   error, and beside fine-tune")
    for name, trainings in done.items():
        fixed, broken = wrong["fine-tune"] - wrong[name], wrong[name] - wrong["fine-tune"]
        p = mcnemar(len(fixed), len(broken))
        beside = f"fixed {len(fixed)}, broken {len(broken)}, p = {p:.2g}"
        print(f"{name:26} {seconds(trainings):7.1f}   {error(trainings)}, {beside}")


if __name__ == "__main__":
    main()
