"""One epoch of optimiser steps: order, rates, pictures fetched ahead, augmentation, gradient."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bearloop.contract.recipes import FitStage, Recipe
from bearloop.contract.runs import StepPoint
from trainer.errors import InputError
from trainer.memory import Memory
from trainer.model import Classifier
from trainer.objective import Target, Weights, class_weights, draw_mix, target_of
from trainer.optimiser import set_rates
from trainer.order import batches, epoch_order, step_seed
from trainer.precision import Numbers, autocast, new_scaler, numbers_of
from trainer.ranks import Ranks, alone
from trainer.views import Pictures, Views

Rows = NDArray[np.int64]


class Seen(Protocol):
    """What a stage learns from: pixels, or a body's activations."""

    def gather(self, indices: Rows) -> Pictures:
        """Copy some rows."""


@dataclass(frozen=True)
class Lesson:
    """What one stage teaches, and with which seed."""

    recipe: Recipe
    stage: FitStage
    presized: Seen
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

    @property
    def least(self) -> int:
        """Pictures of the process that has fewest: all take equally many parts."""
        return self.of // self.ranks.count

    def of_a_batch(self, recipe: Recipe) -> int:
        """Return how many pictures of a batch one process takes, at most."""
        return math.ceil(recipe.batch_size / self.ranks.count)


class Means(NamedTuple):
    """What a run's steps are taken with, from the first to the last."""

    precision: Numbers
    memory: Memory
    scaler: torch.amp.GradScaler

    @classmethod
    def of(cls, recipe: Recipe, device: torch.device, memory: Memory | None = None) -> "Means":
        """Return those of a run that begins."""
        precision = numbers_of(recipe.precision, device)
        return cls(precision, memory or Memory(), new_scaler(precision, device))


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
    means: Means


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
    team = team or Team(alone(), model, Means.of(recipe, next(model.parameters()).device))
    ranks = team.ranks
    order = epoch_order(lesson.labels, seed=seed, epoch=place.epochs, oversample=recipe.oversample)
    parts = batches(order, recipe.step_size, least=ranks.least_batch)
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
            means=team.means,
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
    means: Means | None = None,
) -> float:
    """Take one step on uint8 [n, p, p, 3] with labels [n]; returns the loss before it.

    With a `share` the pictures are this process's, the step and the loss those of the whole batch.
    `weights` are the classes', None: all count alike. `means` last through a run.
    All that is random comes from `seed`. Raises InputError before a loss that is not finite can
    touch the weights; `step` (from 1) names it.
    """
    device = next(model.parameters()).device
    share = share or Share(alone(), len(labels), len(labels))
    means = means or Means.of(recipe, device)
    mix = draw_mix(len(labels), stage=stage, seed=seed, device=device)
    views = Views.of(pictures, recipe, seed=seed, mix=mix, device=device)
    known = torch.from_numpy(labels).to(device)
    target = target_of(known, stage=stage, weights=weights, mix=mix)

    def gradient(parts: int) -> float:
        torch.manual_seed(seed)  # dropout's
        optimiser.zero_grad()
        return _gradient(model, views, target, share=share, means=means, parts=parts)

    value = means.memory.within(
        model, gradient, pictures=share.least, batch=share.of_a_batch(recipe), step=step
    )
    value = share.ranks.mean_loss(value, own=share.own, of=share.of)
    if not math.isfinite(value):
        raise not_finite(stage, step=step, what=f"the loss is {value}")
    with means.memory.for_the_optimiser(step=step):
        means.scaler.step(optimiser)
        means.scaler.update()
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


def _gradient(
    model: nn.Module, views: Views, target: Target, *, share: Share, means: Means, parts: int
) -> float:
    """Leave the gradient of this process's pictures, summed over its parts; return their loss."""
    losses = []
    for number, places in enumerate(np.array_split(np.arange(len(views)), parts), start=1):
        part = slice(int(places[0]), int(places[-1]) + 1)
        pixels = views.part(part)
        with _exchanging(model, now=number == parts):
            with autocast(means.precision, pixels.device):
                logits = model(pixels)
            loss = target.part(part).loss(logits.float())
            loss = loss if parts == 1 else loss * (len(places) / len(views))
            weighed = share.ranks.weighed(loss, own=share.own, of=share.of)
            means.scaler.scale(weighed).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    # Read behind the backward passes: on a GPU this waits for what is queued.
    return float(torch.stack(losses).sum().item())


def _exchanging(model: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Let processes average their gradients once a step, with its last part."""
    if now or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    waiting: AbstractContextManager[None] = model.no_sync()
    return waiting


def _gathered_ahead(presized: Seen, parts: Sequence[Rows]) -> Iterator[Pictures]:
    """Yield each batch's pictures, uint8 [n, p, p, 3], read while the one before trains."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(presized.gather, part) for part in parts[:1]]
        for place in range(len(parts)):
            pictures = ahead.pop().result()
            if place + 1 < len(parts):
                ahead.append(reader.submit(presized.gather, parts[place + 1]))
            yield pictures
