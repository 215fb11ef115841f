"""What a step minimises: cross entropy over labels that may be smoothed, weighed by class or mixed.

Every term is a mean over pictures, so that the parts of a batch add up to the batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bearloop.contract.recipes import FitStage, Recipe
from trainer.order import Rows

MIXING = 1
"""Names mixup's stream of draws: augmentation draws what it would draw without it."""

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Mix:
    """How much of each picture stays, and which one fills the rest (mixup, arXiv:1710.09412)."""

    share: Tensor
    """Of the picture itself, [n], from a half to 1."""
    partner: Tensor
    """Place of the other picture, [n]."""

    def mixed(self, pixels: Tensor, others: Tensor, place: slice) -> Tensor:
        """Blend the pictures [m, …] of a place with their partners, into whose room they go."""
        share = self.share[place].view(-1, *[1] * (pixels.ndim - 1))
        return others.lerp_(pixels, share)


@dataclass(frozen=True)
class Target:
    """What the answers to some pictures are measured by."""

    labels: Tensor
    """Class indexes, [n]."""
    smoothing: float = 0.0
    weights: Tensor | None = None
    """Of each class; None: all count alike."""
    others: Tensor | None = None
    """Labels of the pictures that are mixed in, [n]."""
    share: Tensor | None = None
    """Of the pictures themselves, [n]; there where `others` are."""

    def part(self, place: slice) -> "Target":
        """Return the target of some of the pictures."""
        return Target(
            self.labels[place],
            self.smoothing,
            self.weights,
            None if self.others is None else self.others[place],
            None if self.share is None else self.share[place],
        )

    def loss(self, logits: Tensor) -> Tensor:
        """Return the mean over pictures for logits [n, classes]."""
        if self.others is None and self.weights is None:
            return functional.cross_entropy(logits, self.labels, label_smoothing=self.smoothing)
        own = self._losses(logits, self.labels)
        if self.others is None or self.share is None:
            return own.mean()
        return torch.lerp(self._losses(logits, self.others), own, self.share).mean()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.smoothing
        )
        return losses if self.weights is None else losses * self.weights[labels]


def draw_mix(count: int, *, stage: FitStage, seed: int, device: torch.device) -> Mix | None:
    """Draw one share from Beta(alpha, alpha) for each picture, and whom it is mixed with.

    The larger part is always the picture's own, as in fastai: else two could be the same mixture.
    None where the stage mixes nothing.
    """
    if not stage.mixup:
        return None
    random = np.random.default_rng([seed, MIXING])
    share = random.beta(stage.mixup, stage.mixup, count).astype(np.float32)
    share = np.maximum(share, 1 - share)
    partner = random.permutation(count)
    return Mix(torch.from_numpy(share).to(device), torch.from_numpy(partner).to(device))


def target_of(
    labels: Tensor, *, stage: FitStage, weights: Weights | None, mix: Mix | None
) -> Target:
    """Return what a batch with these labels is measured by."""
    return Target(
        labels,
        stage.label_smoothing,
        None if weights is None else torch.from_numpy(weights).to(labels.device),
        None if mix is None else labels[mix.partner],
        None if mix is None else mix.share,
    )


def class_weights(labels: Rows, recipe: Recipe) -> Weights | None:
    """Weigh each class by the inverse of its count, so that the mean over all pictures is 1.

    None where the recipe lets every picture count alike.
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(labels)
    there = np.count_nonzero(counts)
    return (len(labels) / (there * np.maximum(counts, 1))).astype(np.float32)
