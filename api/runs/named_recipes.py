"""The recipes that bearloop names; docs/training.md tells what each is for. Pure."""

from collections.abc import Mapping

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import (
    Augment,
    CacheStage,
    CosineRestarts,
    EvaluateStage,
    FeaturesStage,
    FitStage,
    OneCycle,
    Recipe,
)

FINE_TUNE_LR = 2e-3
"""fastai's `fine_tune(base_lr=2e-3, pct_start=0.3, div=5.0)`; but two frozen epochs, and batches of
32."""
BODY = 0.03
"""Rate of the first layer group as a share of the head's, while all train; fastai's is 0.01. Chosen
on the lesson's bears, of .03, .1 and .3: docs/measurements.md has the seeds."""


def _at_size(size: int | None, *, epochs: tuple[int, int]) -> tuple[FitStage, FitStage]:
    """Train the head, then all, at one size; None is the recipe's own."""
    frozen, unfrozen = epochs
    named = "full" if size is None else str(size)
    return (
        FitStage(
            name=f"frozen-{named}",
            epochs=frozen,
            schedule=OneCycle(pct_start=0.3),
            lr=FINE_TUNE_LR,
            frozen_to=-1,
            size=size,
        ),
        FitStage(
            name=f"unfrozen-{named}",
            epochs=unfrozen,
            schedule=OneCycle(pct_start=0.3, div=5.0),
            lr=FINE_TUNE_LR / 2,
            lr_body=BODY * FINE_TUNE_LR / 2,
            size=size,
        ),
    )


FINE_TUNE = Recipe(
    name="fine-tune",
    batch_size=32,
    stages=(
        CacheStage(presize=460),
        FitStage(
            name="frozen",
            epochs=2,
            schedule=OneCycle(pct_start=0.99),
            lr=FINE_TUNE_LR,
            frozen_to=-1,
        ),
        FitStage(
            name="unfrozen",
            epochs=4,
            schedule=OneCycle(pct_start=0.3, div=5.0),
            lr=FINE_TUNE_LR / 2,
            lr_body=BODY * FINE_TUNE_LR / 2,
        ),
        EvaluateStage(),
    ),
)
FULL_DATA = FINE_TUNE.model_copy(update={"name": "full-data", "train_on": "all"})
FROM_SCRATCH = Recipe(
    name="from-scratch",
    model="resnet18",
    weights="none",
    preprocess=Preprocess(size=64),
    # No flips: small pictures are often digits and letters, which a mirror makes into others.
    augment=Augment(flip=False, max_warp=0.0, min_scale=0.85),
    stages=(
        CacheStage(presize=72),
        FitStage(name="whole", epochs=8, schedule=OneCycle(), lr=3e-3),
        # Judging labels takes a whole model per fold here, each as long as the run itself.
        EvaluateStage(folds=3),
    ),
)
FROZEN_THEN_DISCRIMINATIVE = Recipe(
    name="frozen-then-discriminative",
    stages=(
        CacheStage(presize=460),
        # The lesson's `fit_one_cycle(4)`, then `fit_one_cycle(2, max_lr=slice(3e-5, 3e-4))`.
        FitStage(name="frozen", epochs=4, schedule=OneCycle(pct_start=0.3), lr=3e-3, frozen_to=-1),
        FitStage(
            name="unfrozen", epochs=2, schedule=OneCycle(pct_start=0.3), lr=3e-4, lr_body=3e-5
        ),
        EvaluateStage(),
    ),
)
PRECOMPUTE = Recipe(
    name="precompute",
    batch_size=32,
    stages=(
        CacheStage(presize=460),
        FeaturesStage(),
        FitStage(
            name="head", epochs=5, schedule=OneCycle(pct_start=0.3), lr=FINE_TUNE_LR, frozen_to=-1
        ),
        EvaluateStage(),
    ),
)
PROGRESSIVE_RESIZE = Recipe(
    name="progressive-resize",
    batch_size=32,
    # The lesson's sizes; a run with another one leaves out those from it on.
    preprocess=Preprocess(size=299),
    stages=(
        CacheStage(presize=460),
        *_at_size(64, epochs=(2, 2)),
        *_at_size(128, epochs=(1, 2)),
        *_at_size(224, epochs=(1, 2)),
        *_at_size(None, epochs=(1, 2)),
        EvaluateStage(),
    ),
)
WARM_RESTARTS = Recipe(
    name="warm-restarts",
    batch_size=32,
    stages=(
        CacheStage(presize=460),
        FitStage(name="frozen", epochs=2, schedule=CosineRestarts(), lr=FINE_TUNE_LR, frozen_to=-1),
        FitStage(
            name="unfrozen",
            epochs=7,
            schedule=CosineRestarts(cycle_mult=2, snapshots=True),
            lr=FINE_TUNE_LR / 2,
            lr_body=BODY * FINE_TUNE_LR / 2,
        ),
        EvaluateStage(),
    ),
)
NAMED: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        FINE_TUNE,
        FROZEN_THEN_DISCRIMINATIVE,
        PRECOMPUTE,
        PROGRESSIVE_RESIZE,
        WARM_RESTARTS,
        FROM_SCRATCH,
        FULL_DATA,
    )
}
