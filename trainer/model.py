"""The classifier: a torchvision body and fastai's head over it."""

from collections.abc import Callable
from typing import Final

import torch
import torchvision
from torch import Tensor, nn

from bearloop.contract.recipes import Recipe
from trainer.errors import InputError

HEAD_WIDTH: Final = 512
RESNETS: Final[dict[str, Callable[..., nn.Module]]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}
"""The models that a recipe may name; all are cut and grouped alike."""
SECOND_GROUP: Final = 6
"""fastai's split of a resnet's body: stem to layer2, then layer3 and layer4."""


class ConcatPool(nn.Module):
    """Maximum and mean over the feature map, side by side: [n, nf, h, w] -> [n, 2*nf].

    Written as reductions: the adaptive pools have no deterministic gradient on CUDA.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Pool one batch of feature maps."""
        return torch.cat([features.amax((2, 3)), features.mean((2, 3))], dim=1)


class Classifier(nn.Module):
    """A body, a pool and a head; float [n, 3, size, size] -> logits [n, classes]."""

    def __init__(self, body: nn.Sequential, *, width: int, classes: int, dropout: float) -> None:
        """Join a body with `width` output channels to a new head (initialised by torch's RNG)."""
        super().__init__()
        self.body = body
        self.pool = ConcatPool()
        self.head = _new_head(2 * width, classes=classes, dropout=dropout)
        self.feature_width = 2 * width
        self.frozen_to = 0

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify normalised pixels."""
        logits: Tensor = self.head(self.features(pixels))
        return logits

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the head sees, [n, 2*nf]: the body's features, pooled."""
        pooled: Tensor = self.pool(self.body(pixels))
        return pooled

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the parts that get a rate of their own, from the picture to the classes."""
        blocks = list(self.body)
        return [blocks[:SECOND_GROUP], blocks[SECOND_GROUP:], [self.head]]

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
    if recipe.model not in RESNETS:
        raise InputError(
            "unknown_model",
            f"no model {recipe.model!r}",
            field="recipe.model",
            value=recipe.model,
            way_out=f"take one of {', '.join(RESNETS)}",
        )
    network = RESNETS[recipe.model](weights=None)
    width = int(network.fc.in_features)  # type: ignore[union-attr,arg-type]
    if state_dict is not None:
        _load_body(network, state_dict, recipe)
    body = nn.Sequential(*list(network.children())[:-2])
    return Classifier(body, width=width, classes=classes, dropout=recipe.dropout)


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


def _load_body(network: nn.Module, state_dict: dict[str, Tensor], recipe: Recipe) -> None:
    wanted = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    for key, tensor in wanted.items():
        given = state_dict.get(key)
        if given is None:
            raise _unfit(recipe, f"they lack {key!r}")
        if given.shape != tensor.shape:
            raise _unfit(recipe, f"{key!r} is {list(given.shape)}, expected {list(tensor.shape)}")
    unknown = [k for k in state_dict if k not in wanted and not k.startswith("fc.")]
    if unknown:
        raise _unfit(recipe, f"{recipe.model} has no {unknown[0]!r}")
    # The file's own classifier is not ours, whatever its number of classes.
    network.load_state_dict({key: state_dict[key] for key in wanted}, strict=False)


def _unfit(recipe: Recipe, what: str) -> InputError:
    return InputError(
        "weights_unfit",
        f"the weights at {recipe.weights!r} are not those of {recipe.model}: {what}",
        field="recipe.weights",
        value=recipe.weights,
        way_out=f"give torchvision's state dict of {recipe.model}, or name the model they are of",
    )


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
