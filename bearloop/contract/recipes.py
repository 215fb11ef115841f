"""A recipe: the named training steps, each stage complete in itself."""

from collections.abc import Iterator, Mapping
from itertools import pairwise, takewhile
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from bearloop.contract.clashes import Clash, refuse
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.record import Record


class Augment(Record):
    """Random changes of a training picture, composed into one interpolation (fastai's names)."""

    flip: bool = True
    """Left and right, half of the time."""
    vertical_flip: bool = False
    """Up and down, half of the time."""
    # An encoding leaves it out where it is off: older digests stand.
    quarter_turns: bool = Field(default=False, exclude_if=lambda turns: not turns)
    """Turn half of the pictures by 90 degrees; with both flips all eight ways come equally often.
    """
    max_rotate: float = Field(default=10.0, ge=0, le=180)
    """Degrees to either side."""
    min_zoom: float = Field(default=1.0, gt=0, le=100)
    """Least factor by which a picture is enlarged."""
    max_zoom: float = Field(default=1.1, gt=0, le=100)
    """Largest factor."""
    max_lighting: float = Field(default=0.2, ge=0, lt=1)
    """How far brightness and contrast change at most, as a share."""
    max_warp: float = Field(default=0.2, ge=0, le=1)
    """How far a picture is seen from the side at most."""
    p_affine: float = Field(default=0.75, ge=0, le=1)
    """Share of pictures that each of zoom, turn and warp changes."""
    p_lighting: float = Field(default=0.75, ge=0, le=1)
    """Share of pictures that each of brightness and contrast changes."""
    min_scale: float = Field(default=0.75, gt=0, le=1)
    """Least share of the presized area that a random crop keeps; 1 crops nothing."""
    padding: Literal["reflection", "border", "zeros"] = Field(
        default="reflection", exclude_if=lambda padding: padding == "reflection"
    )
    """What is read beyond the edge: the picture mirrored, its last pixel, or black."""

    @model_validator(mode="after")
    def _zooms_upwards(self) -> Self:
        if self.min_zoom > self.max_zoom:
            detail = f"{self.min_zoom} is above max_zoom, {self.max_zoom}"
            refuse(self, [Clash("min_zoom", detail, "give both, the smaller one first")])
        return self


SIDE_ON = Augment()
TOP_DOWN = Augment(vertical_flip=True, quarter_turns=True, max_warp=0.0)
# Its shares are those of the others: a maximum that is laid over it works.
NO_AUGMENT = Augment(flip=False, max_rotate=0, max_zoom=1, max_lighting=0, max_warp=0, min_scale=1)
PRESETS: Mapping[str, Augment] = {"side-on": SIDE_ON, "top-down": TOP_DOWN, "none": NO_AUGMENT}


def preset(given: object) -> object:
    """Return a preset's fields where its name is given, and anything else as it is."""
    if not isinstance(given, str):
        return given
    if given not in PRESETS:
        raise ValueError(f"{given!r} is none of {', '.join(PRESETS)}, and no object of fields")
    return dict(PRESETS[given])


Preset = Literal["side-on", "top-down", "none"]
AnyAugment = Annotated[Augment, BeforeValidator(preset, json_schema_input_type=Augment | Preset)]
"""The random changes as an object, or a preset by its name."""


class OneCycle(Record):
    """Rate up, then down to almost nothing; cosine in both halves, momentum inversely."""

    kind: Literal["one-cycle"] = "one-cycle"
    pct_start: float = Field(default=0.25, gt=0, lt=1)
    div: float = Field(default=25.0, gt=1)
    div_final: float = Field(default=1e5, gt=1)


class Flat(Record):
    """One rate throughout."""

    kind: Literal["flat"] = "flat"


class CosineRestarts(Record):
    """SGDR: every cycle begins at the whole rate and follows a cosine down to nothing."""

    kind: Literal["cosine-restarts"] = "cosine-restarts"
    cycle_len: int = Field(default=1, ge=1, le=1000)
    """Epochs of the first cycle."""
    cycle_mult: int = Field(default=1, ge=1, le=10)
    """How many times as long as the cycle before it each one is."""
    snapshots: bool = False
    """Keep the weights at each cycle's end; the model is all of them, averaging what they say."""

    def ends(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which a cycle ends, up to `epochs`."""
        ends, length = [self.cycle_len], self.cycle_len
        while ends[-1] <= epochs:
            length *= self.cycle_mult
            ends.append(ends[-1] + length)
        return tuple(ends[:-1])

    def clashes(self, epochs: int) -> Iterator[Clash]:
        """Want the last cycle to end with the stage: its end is what counts."""
        whole = self.ends(epochs)
        if epochs not in whole:
            after = self.ends(epochs * (self.cycle_mult + 1) + self.cycle_len)[len(whole)]
            near = " or ".join(str(end) for end in (*whole[-1:], after))
            yield Clash(
                "epochs",
                f"{epochs} end within a cycle",
                f"cycle_len {self.cycle_len} and cycle_mult {self.cycle_mult} end one after {near}",
            )


class CacheStage(Record):
    """Decode every picture once and presize it into uint8 memmap shards."""

    kind: Literal["cache"] = "cache"
    presize: int = Field(default=460, ge=8, le=1024)
    """Side in pixels of the square that training crops are taken from."""


LAYER_GROUPS: Final = 3
"""Of every model: two of the body, and the head."""
Schedule = Annotated[OneCycle | CosineRestarts | Flat, Field(discriminator="kind")]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
TrainOn = Literal["train", "all"]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Suggestion = Literal["minimum", "steepest", "valley", "slide"]
"""How a rate is read off an lr-find's curve; the names are fastai's."""


class LrFindStage(Record):
    """Train at growing rates until the loss runs away, suggest a rate, and undo the training.

    It trains what the fit stage right behind it trains; every fit stage behind it whose `lr` is
    `auto` takes the rate that it finds.
    """

    kind: Literal["lr-find"] = "lr-find"
    start_lr: Rate = 1e-7
    """Of the head, where the search begins."""
    end_lr: Rate = 10.0
    """Of the head; the rates between are spaced evenly in the logarithm."""
    iterations: int = Field(default=100, ge=30, le=1000)
    """Steps from the first rate to the last."""
    stop_at: float = Field(default=4.0, gt=1)
    """Times the best smoothed loss at which the search ends early."""
    suggestion: Suggestion = "valley"
    """Which of the four is taken where a stage's `lr` is `auto`."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.end_lr <= self.start_lr:
            detail = f"{self.end_lr} is not above start_lr, {self.start_lr}"
            refuse(self, [Clash("end_lr", detail, "give both, the smaller one as start_lr")])
        return self


class EarlyStopping(Record):
    """When a stage ends before its last epoch."""

    patience: int = Field(ge=1, le=1000)
    """Epochs without a better one after which it ends."""
    metric: Literal["valid_loss", "error_rate"] = "valid_loss"
    """Lower is better; of equal epochs the first counts."""


class FeaturesStage(Record):
    """Pass every picture through the frozen body once; the head then learns from what came out.

    It feeds the fit stages behind it up to the first that trains more than the head.
    """

    kind: Literal["features"] = "features"
    views: int = Field(default=1, ge=1, le=64)
    """1: each training picture once, as it is; more: so many augmented views of it, one of which
    each epoch takes in turn. Valid pictures are always seen once and as they are."""


class FitStage(Record):
    """Train for a number of epochs."""

    kind: Literal["fit"] = "fit"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$")
    """Unlike every other stage's; the report, MLflow and files bear it."""
    epochs: int = Field(ge=1, le=1000)
    """Times that every picture is trained on."""
    schedule: Schedule = OneCycle()
    """How the rate moves through the stage."""
    lr: Rate | Literal["auto"]
    """Highest rate of the last layer group (the head); `auto`: what the lr-find stage before it
    finds."""
    lr_body: Rate | None = None
    """Highest rate of the first layer group; the groups between are spaced evenly in the logarithm.
    None: `lr` for every group."""
    # A recipe's encoding leaves these out where they are not used: older digests stand.
    lr_times: Rate | None = Field(default=None, exclude_if=lambda times: times is None)
    """With `auto`: the head's rate as a multiple of the rate found; None: 1."""
    lr_body_times: Rate | None = Field(default=None, exclude_if=lambda times: times is None)
    """With `auto`: the first layer group's rate as a multiple of the rate found; None: as the
    head's."""
    frozen_to: int = Field(default=0, ge=-LAYER_GROUPS, lt=LAYER_GROUPS)
    """Of the three layer groups those before this index are frozen; 0 trains all, -1 (or 2) the
    head only. A frozen group's
    BatchNorm stays in eval mode, so that its statistics stay as they were."""
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """AdamW's; biases, norms and embeddings of places have none."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes."""
    size: int | None = Field(default=None, ge=8, le=1024, exclude_if=lambda own: own is None)
    """Side in pixels of the pictures that it trains and validates on; None: the recipe's, which
    the last stage has always."""
    batch_size: int | None = Field(default=None, ge=2, le=4096, exclude_if=lambda own: own is None)
    """None: the recipe's."""
    dropout: float | None = Field(default=None, ge=0, lt=1, exclude_if=lambda own: own is None)
    """None: the recipe's."""
    mixup: float = Field(default=0.0, ge=0, le=10, exclude_if=lambda alpha: not alpha)
    """Alpha of the Beta distribution that two pictures are blended by; 0 blends none."""
    early_stopping: EarlyStopping | None = Field(
        default=None, exclude_if=lambda stopping: stopping is None
    )
    """End before the last epoch when the valid images get no better, and keep the best weights."""

    @property
    def head_only(self) -> bool:
        """Whether the body stays as it is."""
        return self.frozen_to in (-1, LAYER_GROUPS - 1)

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The epochs of the stage, from 1, after which its weights are kept."""
        schedule = self.schedule
        if isinstance(schedule, CosineRestarts) and schedule.snapshots:
            return schedule.ends(self.epochs)
        return ()

    @property
    def rate(self) -> float:
        """The head's rate as a number; an `auto` one has none before it is found."""
        if isinstance(self.lr, str):
            raise ValueError(f"stage {self.name!r}: its lr is auto, and no rate is found yet")
        return self.lr

    @property
    def body_share(self) -> float | None:
        """The first layer group's rate as a share of the head's; None: all groups have one rate."""
        if isinstance(self.lr, str):
            return None if self.lr_body_times is None else self.lr_body_times / (self.lr_times or 1)
        return None if self.lr_body is None else self.lr_body / self.lr

    def at(self, found: float) -> "FitStage":
        """Return the stage with numbers where `found` is the rate that its lr-find suggests."""
        if self.lr != "auto":
            return self
        rate, share = found * (self.lr_times or 1), self.body_share
        numbers = {"lr": rate, "lr_body": None if share is None else rate * share}
        return self.model_copy(update={**numbers, "lr_times": None, "lr_body_times": None})

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        schedule = self.schedule
        cycles = schedule.clashes(self.epochs) if isinstance(schedule, CosineRestarts) else ()
        refuse(self, [*self._rate_clashes(), *self._stopping_clashes(), *cycles])
        return self

    def _rate_clashes(self) -> Iterator[Clash]:
        if self.lr == "auto" and self.lr_body is not None:
            way_out = "give lr_body_times, its multiple of the rate that is found"
            yield Clash("lr_body", "with lr auto there is no number to stand beside", way_out)
        for name in ("lr_times", "lr_body_times"):
            if self.lr != "auto" and getattr(self, name) is not None:
                yield Clash(name, "it multiplies what is found", "give lr auto, or leave it out")

    def _stopping_clashes(self) -> Iterator[Clash]:
        if self.early_stopping is None:
            return
        if isinstance(self.schedule, OneCycle):
            yield Clash(
                "early_stopping",
                "one-cycle learns most in its last epochs, when its rate is low, and must not be "
                "cut off",
                "train without it and take the number of epochs that the run's diagnosis proposes, "
                "or give the schedule flat or cosine-restarts",
            )
        if isinstance(self.schedule, CosineRestarts) and self.schedule.cycle_len == self.epochs:
            yield Clash(
                "early_stopping",
                "of a stage that is one cycle only the end counts, and must not be cut off",
                "give more cycles (a smaller cycle_len), or train without it",
            )
        if self.snapshots:
            yield Clash(
                "early_stopping",
                "a stage that keeps snapshots answers with all of its cycles, of which none may be "
                "missing",
                "leave out one of the two",
            )


class EvaluateStage(Record):
    """Predict every picture, plain and with test-time augmentation, and score the labels."""

    kind: Literal["evaluate"] = "evaluate"
    tta_views: int = Field(default=4, ge=0, le=32)
    """Augmented views averaged with the plain one; 0 leaves test-time augmentation out."""
    tta_plain_weight: float = Field(default=0.2, ge=0, le=1)
    """Weight of the plain view in the average; 0.2 beside 4 views is the lesson's mean of five."""
    folds: int = Field(default=5, ge=2, le=6)
    """Heads (or whole models without pretrained weights) trained to judge labels out of fold."""


Stage = Annotated[
    CacheStage | FeaturesStage | LrFindStage | FitStage | EvaluateStage,
    Field(discriminator="kind"),
]


class Recipe(Record):
    """Named training steps over one model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """In the list of recipes it stands for these steps for ever; those of a run may be changed."""
    model: str = "resnet34"
    """A torchvision classifier by name."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's download), `none`, or a `file:`/`s3:` address."""
    pool: Literal["concat", "average"] | None = Field(default=None, exclude_if=lambda p: p is None)
    """What the head sees of the feature map: its maxima beside its means, or the means alone. None:
    `concat`, or the one vector that a model without a feature map gives."""
    preprocess: Preprocess = Preprocess()
    """What every picture becomes that is not trained on, when it is served too."""
    augment: AnyAugment = SIDE_ON
    """Random changes of training pictures."""
    batch_size: int = Field(default=64, ge=2, le=4096)
    """Pictures of a batch, over all processes."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Of the head's last layer; half of it before its first."""
    accumulate: int = Field(default=1, ge=1, le=256, exclude_if=lambda batches: batches == 1)
    """Batches that make one step: it is that of a batch so many times as large, with the
    activations of one in memory."""
    precision: Precision = "auto"
    """Of training; evaluation is fp32 always. `auto`: what the run's processor computes fast in,
    bf16 wherever it can. fp16 needs a GPU."""
    oversample: bool = False
    """Draw rare classes as often as the commonest."""
    class_weights: Literal["none", "balanced"] = Field(
        default="none", exclude_if=lambda weights: weights == "none"
    )
    """`balanced`: a picture counts by the inverse of its class's share, 1 on average."""
    train_on: TrainOn = Field(default="train", exclude_if=lambda splits: splits == "train")
    """`all`: every labelled image, the valid and test ones too. Nothing is held out then, so the
    run measures no error: its twin does, the same recipe with `train`."""
    stages: tuple[Stage, ...]
    """In order: one cache, then features, lr-find and fit stages, one evaluate last."""

    @model_validator(mode="after")
    def _evens_out_once(self) -> Self:
        if self.oversample and self.class_weights == "balanced":
            detail = "balanced classes that are oversampled too would count twice"
            refuse(self, [Clash("class_weights", detail, "take one of the two")])
        return self

    @property
    def step_size(self) -> int:
        """Pictures of one step."""
        return self.batch_size * self.accumulate

    def fits(self) -> list[tuple[LrFindStage | None, FitStage]]:
        """Return the fit stages in order, each with the lr-find stage right before it."""
        return [
            (before if isinstance(before, LrFindStage) else None, stage)
            for before, stage in pairwise((None, *self.stages))
            if isinstance(stage, FitStage)
        ]

    def feeding(self, stage: FitStage) -> FeaturesStage | None:
        """Return the features stage whose activations a fit stage learns from; None: pictures."""
        feeding: FeaturesStage | None = None
        for step in self.stages:
            if isinstance(step, FeaturesStage):
                feeding = step
            elif isinstance(step, FitStage):
                # A body that was trained gives other activations.
                feeding = feeding if step.head_only else None
                if step.name == stage.name:
                    return feeding
        return None

    def during(self, stage: FitStage) -> "Recipe":
        """Return the recipe with a stage's own size, batch and dropout in place of the common."""
        own = {
            name: value
            for name in ("batch_size", "dropout")
            if (value := getattr(stage, name)) is not None
        }
        if stage.size is not None:
            own["preprocess"] = self.preprocess.model_copy(update={"size": stage.size})
        return self.model_copy(update=own) if own else self

    def sizes(self) -> list[int]:
        """Return the sides of the pictures that its stages train on, each once, ascending."""
        trained = {self.during(stage).preprocess.size for _, stage in self.fits()}
        return sorted({*trained, self.preprocess.size})

    def stopped_by_nothing(self) -> list[FitStage]:
        """Return the stages that would stop early though no image is held out to stop by."""
        if self.train_on != "all":
            return []
        return [stage for _, stage in self.fits() if stage.early_stopping is not None]

    def without_rate(self) -> list[FitStage]:
        """Return the fit stages whose `lr` is auto though no lr-find stage finds a rate."""
        unsearched = takewhile(lambda pair: pair[0] is None, self.fits())
        return [stage for _, stage in unsearched if stage.lr == "auto"]
