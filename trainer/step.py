"""One epoch of optimiser steps: order, rates, pictures fetched ahead, augmentation, gradient."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bearloop.contract.recipes import FitStage, Recipe
from bearloop.contract.runs import StepPoint
from trainer.augment import augment
from trainer.cache import PresizedPixels
from trainer.errors import InputError
from trainer.model import Classifier
from trainer.objective import Weights, class_weights, draw_mix, target_of
from trainer.optimiser import set_rates
from trainer.order import batches, epoch_order, step_seed
from trainer.ranks import Ranks, alone

Rows = NDArray[np.int64]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Lesson:
    """What one stage teaches, and with which seed."""

    recipe: Recipe
    stage: FitStage
    presized: PresizedPixels
    rows: Rows
    """Of the pictures in `presized`, [n]."""
    labels: Rows
    """Class indexes, [n]."""
    seed: int


@dataclass(frozen=True)
class Place:
    """Where an epoch begins, or is resumed."""

    epoch: int
    """Epochs of this stage done."""
    epochs: int
    """Epochs of all stages done."""
    batch: int
    """Batches of this epoch done."""
    steps: int
    """Steps of all stages done."""


class Share(NamedTuple):
    """The part of one batch that this process takes."""

    ranks: Ranks
    own: int
    """Pictures of this process."""
    of: int
    """Pictures of the batch."""


class Step(NamedTuple):
    """One step taken."""

    point: StepPoint
    pictures: int
    done: int
    """Steps of this stage."""
    total: int


@dataclass(frozen=True)
class Team:
    """Who takes the steps: this process alone, or several, each with its share of every batch."""

    ranks: Ranks
    learner: nn.Module
    """The model, called so that its gradient becomes that of the whole batch."""


def train_epoch(
    model: Classifier,
    optimiser: torch.optim.AdamW,
    *,
    lesson: Lesson,
    place: Place,
    team: Team | None = None,
) -> Iterator[Step]:
    """Train one epoch, or what is left of it, and yield each step taken."""
    recipe, seed = lesson.recipe, lesson.seed
    team = team or Team(alone(), model)
    ranks = team.ranks
    order = epoch_order(lesson.labels, seed=seed, epoch=place.epochs, oversample=recipe.oversample)
    parts = batches(order, recipe.batch_size, least=ranks.least_batch)
    total = lesson.stage.epochs * len(parts)
    before = place.epoch * len(parts)
    remaining = parts[place.batch :]
    own = [ranks.share(part) for part in remaining]
    ahead = _gathered_ahead(lesson.presized, [lesson.rows[part] for part in own])
    weights = class_weights(lesson.labels, recipe)
    model.train()
    for done, (part, mine, pictures) in enumerate(
        zip(remaining, own, ahead, strict=True), place.batch
    ):
        number = place.steps + 1 + done - place.batch
        rate = set_rates(
            optimiser,
            lesson.stage,
            groups=len(model.layer_groups()),
            step=before + done,
            steps=total,
        )
        loss = train_step(
            team.learner,
            optimiser,
            pictures=pictures,
            labels=lesson.labels[mine],
            recipe=recipe,
            stage=lesson.stage,
            seed=step_seed(seed, number, rank=ranks.number),
            step=number,
            share=Share(ranks, len(mine), len(part)),
            weights=weights,
        )
        point = StepPoint(step=number, loss=loss, lr=rate.lr, momentum=rate.momentum)
        yield Step(point, pictures=len(part), done=before + done + 1, total=total)


def train_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    pictures: Pictures,
    labels: Rows,
    recipe: Recipe,
    stage: FitStage,
    seed: int,
    step: int,
    share: Share | None = None,
    weights: Weights | None = None,
) -> float:
    """Take one step on uint8 [n, p, p, 3] with labels [n]; returns the loss before it.

    With a `share` the pictures are this process's, the step and the loss those of the whole batch.
    `weights` are the classes', None: all count alike.
    All that is random comes from `seed`. Raises InputError before a loss that is not finite can
    touch the weights; `step` (from 1) names it.
    """
    device = next(model.parameters()).device
    torch.manual_seed(seed)  # dropout's
    pixels = augment(
        torch.from_numpy(pictures).to(device),
        recipe.augment,
        preprocess=recipe.preprocess,
        random=np.random.default_rng(seed),
    ).contiguous(memory_format=torch.channels_last)
    mix = draw_mix(len(labels), stage=stage, seed=seed, device=device)
    pixels = pixels if mix is None else mix.mixed(pixels)
    target = target_of(torch.from_numpy(labels).to(device), stage=stage, weights=weights, mix=mix)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(pixels)
    loss = target.loss(logits.float())
    share = share or Share(alone(), len(labels), len(labels))
    optimiser.zero_grad()
    share.ranks.weighed(loss, own=share.own, of=share.of).backward()  # type: ignore[no-untyped-call]
    # Read behind the backward pass: on a GPU this waits for what is queued.
    value = share.ranks.mean_loss(float(loss.item()), own=share.own, of=share.of)
    if not math.isfinite(value):
        raise not_finite(stage, step=step, what=f"the loss is {value}")
    optimiser.step()
    return value


def not_finite(stage: FitStage, *, step: int, what: str) -> InputError:
    """Return the error of a stage whose numbers broke at `step`."""
    return InputError(
        "loss_not_finite",
        f"{what} at step {step} (stage {stage.name!r})",
        field="recipe.stages.lr",
        value=str(stage.lr),
        way_out="lower the rate, a tenth is a good try, or train in fp32",
    )


def _gathered_ahead(presized: PresizedPixels, parts: Sequence[Rows]) -> Iterator[Pictures]:
    """Yield each batch's pictures, uint8 [n, p, p, 3], read while the one before trains."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(presized.gather, part) for part in parts[:1]]
        for place in range(len(parts)):
            pictures = ahead.pop().result()
            if place + 1 < len(parts):
                ahead.append(reader.submit(presized.gather, parts[place + 1]))
            yield pictures
