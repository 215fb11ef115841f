"""How many human label errors the label-issue order finds: CIFAR-10N against its clean labels.

    python benchmarks/label_issues.py FOLDER WEIGHTS [--skip 2000] [--images 2000] [--size 96]

FOLDER holds `labels.csv` (name, clean, aggre, worst) and `images/`; WEIGHTS is torchvision's
resnet18 (`.pth` or `.pth.xz`). E is the number of wrong labels; P@E is the share of wrong ones
among the first E of an order, and the cost is how many must be looked at to find 90 % of them.
The penalty of the heads was chosen on the first 2,000 images, which are therefore skipped. The
peer's order (cleanlab's normalized margin) stands beside ours.
"""

import argparse
import csv
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import Recipe
from bearloop.store import FolderStore, image_key
from trainer.cache import open_pixels
from trainer.data import Item
from trainer.evaluate import features
from trainer.heads import head_judge
from trainer.label_issues import label_issue_scores
from trainer.model import build_classifier
from trainer.out_of_fold import out_of_fold
from trainer.weights import load_weights

CPU = torch.device("cpu")
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--skip", type=int, default=2000)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=96)
    given = parser.parse_args()
    with (given.folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[given.skip : given.skip + given.images]
    names = sorted({row["clean"] for row in rows})
    pictures = [(given.folder / "images" / row["name"]).read_bytes() for row in rows]
    found = body_features(pictures, weights=given.weights, size=given.size)
    clean = np.array([names.index(row["clean"]) for row in rows])
    for kind in ("aggre", "worst"):
        labels = np.array([names.index(row[kind]) for row in rows])
        report(kind, labels, clean, found=found, pictures=pictures)


def body_features(pictures: list[bytes], *, weights: Path, size: int) -> NDArray[np.float32]:
    """Return the pretrained body's features, as a run computes them."""
    recipe = Recipe(
        name="benchmark",
        model="resnet18",
        weights=weights.absolute().as_uri(),
        preprocess=Preprocess(size=size),
        stages=(),
    )
    items = items_of(pictures, [0] * len(pictures))
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder, "store"))
        for item, data in zip(items, pictures, strict=True):
            store.put(image_key(item.sha256), data)
        _, pixels = open_pixels(
            store,
            items,
            evaluation=recipe.preprocess,
            presize=size,
            folder=Path(folder, "cache"),
            report=lambda *_: None,
        )
        body = build_classifier(recipe, 2, load_weights(recipe))
        return features(
            body,
            pixels,
            range(len(items)),
            device=CPU,
            preprocess=recipe.preprocess,
            batch_size=64,
        )


def report(
    kind: str,
    labels: NDArray[np.int64],
    clean: NDArray[np.int64],
    *,
    found: NDArray[np.float32],
    pictures: list[bytes],
) -> None:
    wrong = labels != clean
    items = items_of(pictures, labels.tolist())
    classes = int(clean.max()) + 1
    judge = head_judge(found, labels.tolist(), classes=classes, device=CPU)
    p = out_of_fold(items, judge, classes=classes, folds=FOLDS)
    right = (p.argmax(axis=1) == clean).mean()
    print(
        f"{kind}: n {len(labels)}, E {wrong.sum()} ({wrong.mean():.1%}), clean accuracy {right:.3f}"
    )
    orders: dict[str, Callable[[], NDArray[np.float64]]] = {
        "label_issue": lambda: label_issue_scores(labels, p),
        "normalized margin": lambda: (
            -get_label_quality_scores(labels, p.astype(np.float64), method="normalized_margin")
        ),
        "random": lambda: np.random.default_rng(0).random(len(labels)),
    }
    for name, score in orders.items():
        print(f"  {name:18} {figures(score(), wrong)}")


def figures(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> str:
    """Say P@E, average precision and the cost of finding 90 %."""
    hits = wrong[np.argsort(-scores, kind="stable")]
    count = int(hits.sum())
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    cost = int(np.searchsorted(np.cumsum(hits), 0.9 * count)) + 1
    return (
        f"P@E {hits[:count].mean():.3f}  AP {precision[hits].mean():.3f}  "
        f"90 % found after {cost / count:.2f} E ({cost / len(hits):.0%} of the images)"
    )


def items_of(pictures: list[bytes], labels: list[int]) -> list[Item]:
    shas = [hashlib.sha256(data).hexdigest() for data in pictures]
    return [
        Item(sha256=sha, label=label, split="train", group=sha, fold=int(sha[:8], 16) % 60)
        for sha, label in zip(shas, labels, strict=True)
    ]


if __name__ == "__main__":
    main()
