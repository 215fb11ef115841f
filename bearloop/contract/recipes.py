"""A recipe: the named training steps, each stage complete in itself."""

from typing import Annotated, Literal

from pydantic import Field

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.record import Record


class Augment(Record):
    """Random changes of a training picture, composed into one interpolation (fastai's names)."""

    flip: bool = True
    vertical_flip: bool = False
    max_rotate: float = Field(default=10.0, ge=0, le=180)
    """Degrees to either side."""
    min_zoom: float = Field(default=1.0, gt=0)
    max_zoom: float = Field(default=1.1, gt=0)
    max_lighting: float = Field(default=0.2, ge=0, lt=1)
    max_warp: float = Field(default=0.2, ge=0, le=1)
    p_affine: float = Field(default=0.75, ge=0, le=1)
    p_lighting: float = Field(default=0.75, ge=0, le=1)
    min_scale: float = Field(default=0.75, gt=0, le=1)
    """Least share of the presized area that a random crop keeps; 1 crops nothing."""


SIDE_ON = Augment()
TOP_DOWN = Augment(vertical_flip=True, max_rotate=10.0, max_warp=0.0)
NO_AUGMENT = Augment(
    flip=False,
    max_rotate=0,
    max_zoom=1,
    max_lighting=0,
    max_warp=0,
    p_affine=0,
    p_lighting=0,
    min_scale=1,
)


class OneCycle(Record):
    """Rate up, then down to almost nothing; cosine in both halves, momentum inversely."""

    kind: Literal["one-cycle"] = "one-cycle"
    pct_start: float = Field(default=0.25, gt=0, lt=1)
    div: float = Field(default=25.0, gt=1)
    div_final: float = Field(default=1e5, gt=1)


class Flat(Record):
    """One rate throughout."""

    kind: Literal["flat"] = "flat"


class CacheStage(Record):
    """Decode every picture once and presize it into uint8 memmap shards."""

    kind: Literal["cache"] = "cache"
    presize: int = Field(default=460, ge=8, le=1024)
    """Side in pixels of the square that training crops are taken from."""


class FitStage(Record):
    """Train for a number of epochs."""

    kind: Literal["fit"] = "fit"
    name: str
    epochs: int = Field(ge=1, le=1000)
    schedule: Annotated[OneCycle | Flat, Field(discriminator="kind")] = OneCycle()
    lr: float = Field(gt=0)
    """Highest rate of the last layer group (the head)."""
    lr_body: float | None = Field(default=None, gt=0)
    """Highest rate of the first layer group; the groups between are spaced evenly in the logarithm.
    None: `lr` for every group."""
    frozen_to: int = 0
    """Layer groups before this index are frozen; 0 trains all, -1 the head only. A frozen group's
    BatchNorm stays in eval mode, so that its statistics stay as they were."""
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class EvaluateStage(Record):
    """Predict every picture, plain and with test-time augmentation, and score the labels."""

    kind: Literal["evaluate"] = "evaluate"
    tta_views: int = Field(default=4, ge=0, le=32)
    """Augmented views averaged with the plain one; 0 leaves test-time augmentation out."""
    tta_plain_weight: float = Field(default=0.2, ge=0, le=1)
    """Weight of the plain view in the average; 0.2 beside 4 views is the lesson's mean of five."""
    folds: int = Field(default=5, ge=2, le=6)
    """Heads (or whole models without pretrained weights) trained to judge labels out of fold."""


Stage = Annotated[CacheStage | FitStage | EvaluateStage, Field(discriminator="kind")]


class Recipe(Record):
    """Named training steps over one model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    model: str = "resnet34"
    """A torchvision classifier by name."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's download), `none`, or a `file:`/`s3:` address."""
    preprocess: Preprocess = Preprocess()
    augment: Augment = SIDE_ON
    batch_size: int = Field(default=64, ge=2, le=4096)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of training; evaluation is fp32 always."""
    oversample: bool = False
    """Draw rare classes as often as the commonest."""
    stages: tuple[Stage, ...]
