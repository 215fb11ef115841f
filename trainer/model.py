"""The classifier: a torchvision body and fastai's head over it."""

from itertools import chain
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bearloop.contract.models import MODELS, find_misfits
from bearloop.contract.recipes import Recipe
from trainer.errors import InputError
from trainer.families import family_of
from trainer.weights import put_weights

HEAD_WIDTH: Final = 512


class ConcatPool(nn.Module):
    """Maximum and mean over the feature map, side by side: [n, nf, h, w] -> [n, 2*nf].

    Written as reductions: the adaptive pools have no deterministic gradient on CUDA.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Pool one batch of feature maps."""
        return torch.cat([features.amax((2, 3)), features.mean((2, 3))], dim=1)


class AveragePool(nn.Module):
    """Mean over the feature map, as torchvision's own classifiers do: [n, nf, h, w] -> [n, nf]."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool one batch of feature maps."""
        return features.mean((2, 3))


class Classifier(nn.Module):
    """A body, a pool and a head; float [n, 3, size, size] -> logits [n, classes]."""

    def __init__(
        self,
        body: nn.Sequential,
        *,
        second: int,
        pool: nn.Module,
        width: int,
        classes: int,
        dropout: float,
    ) -> None:
        """Join body and pool, which give `width` numbers, to a new head (drawn by torch's RNG).

        `second` is where the body's second layer group begins.
        """
        super().__init__()
        self.body = body
        self.pool = pool
        self.head = _new_head(width, classes=classes, dropout=dropout)
        self.feature_width = width
        self.frozen_to = 0
        self._second = second

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify normalised pixels."""
        logits: Tensor = self.head(self.features(pixels))
        return logits

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the head sees, [n, feature_width]: the body's features, pooled."""
        pooled: Tensor = self.pool(self.body(pixels))
        return pooled

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the parts that get a rate of their own, from the picture to the classes."""
        blocks = list(self.body)
        return [blocks[: self._second], blocks[self._second :], [self.head]]

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training, all but what is frozen: its BatchNorm must learn no statistics."""
        super().train(mode)
        for group in self.layer_groups()[: self.frozen_to]:
            for module in group:
                module.eval()
        return self


def build_classifier(
    recipe: Recipe, classes: int, state_dict: dict[str, Tensor] | None
) -> Classifier:
    """Build the recipe's model; `state_dict` is torchvision's, None leaves the body random.

    The new parts are drawn from torch's global RNG: seed it first. Raises InputError.
    """
    _check_model(recipe)
    family = family_of(recipe.model)
    size = recipe.preprocess.size
    network = family.network(recipe.model, size=size)
    if state_dict is not None:
        put_weights(network, state_dict, recipe=recipe, family=family)
    body = family.body(network)
    pool = _pool(recipe)
    return Classifier(
        body,
        second=family.second,
        pool=pool,
        width=_width(nn.Sequential(body, pool), size=size),
        classes=classes,
        dropout=recipe.dropout,
    )


def freeze_to(model: Classifier, index: int) -> None:
    """Freeze the layer groups before `index` (weights and BatchNorm statistics), train the rest.

    0 trains all; a negative index counts from the end, so -1 leaves the head only.
    """
    groups = model.layer_groups()
    if not -len(groups) <= index < len(groups):
        raise InputError(
            "frozen_to_out_of_range",
            f"{len(groups)} layer groups cannot be frozen to {index}",
            field="recipe.stages.frozen_to",
            value=str(index),
            way_out=f"take a number from {-len(groups)} to {len(groups) - 1}",
        )
    model.frozen_to = index % len(groups)
    for position, group in enumerate(groups):
        for module in group:
            module.requires_grad_(position >= model.frozen_to)
    model.train(model.training)


def set_dropout(model: Classifier, share: float) -> None:
    """Let the head drop this share of what its last layer sees, half of it before (fastai's)."""
    *before, last = [part for part in model.head.modules() if isinstance(part, nn.Dropout)]
    last.p = share
    for part in before:
        part.p = share / 2


def _check_model(recipe: Recipe) -> None:
    misfit = next(find_misfits(recipe), None)
    if misfit is not None:
        raise InputError(
            "unknown_model" if recipe.model not in MODELS else "model_misfit",
            misfit.detail,
            field=f"recipe.{misfit.field}",
            value=misfit.value,
            way_out=misfit.way_out,
        )


def _pool(recipe: Recipe) -> nn.Module:
    """Return what makes one vector of a picture's features; the body may have done it."""
    if not MODELS[recipe.model].feature_map:
        return nn.Identity()
    return AveragePool() if recipe.pool == "average" else ConcatPool()


def _width(module: nn.Module, *, size: int) -> int:
    """Return how many numbers a picture becomes; nothing is computed, drawn or changed."""
    shapes = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in chain(module.named_parameters(), module.named_buffers())
    }
    pixels = torch.empty(1, 3, size, size, device="meta")
    answer: Tensor = functional_call(module.eval(), shapes, (pixels,))
    module.train()
    return answer.shape[1]


def _new_head(width: int, *, classes: int, dropout: float) -> nn.Sequential:
    """Build fastai's head; no bias behind a BatchNorm, weights by Kaiming's normal."""
    head = nn.Sequential(
        nn.BatchNorm1d(width),
        nn.Dropout(dropout / 2),
        nn.Linear(width, HEAD_WIDTH, bias=False),
        nn.ReLU(),
        nn.BatchNorm1d(HEAD_WIDTH),
        nn.Dropout(dropout),
        nn.Linear(HEAD_WIDTH, classes, bias=False),
    )
    for module in head:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return head
