"""The demo's recipe, sent in full with its run: what users of their own recipes do."""

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import Augment, CacheStage, EvaluateStage, FitStage, Recipe

DIGITS_RECIPE = Recipe(
    name="digits",
    model="resnet18",
    weights="none",
    preprocess=Preprocess(size=32),
    # No flips: a mirrored 2 is no 2. No lighting: the digits' contrast is always the same.
    augment=Augment(
        flip=False, max_rotate=10, max_zoom=1.1, max_lighting=0, max_warp=0.1, min_scale=1
    ),
    dropout=0.1,
    # Pictures this small gain nothing from bf16 on most CPUs.
    precision="fp32",
    stages=(
        CacheStage(presize=32),
        # Not smoothed, clean labels trained a worse model than the planted ones did (three seeds).
        FitStage(name="whole", epochs=9, lr=3e-3, label_smoothing=0.1),
        EvaluateStage(folds=2),
    ),
)
