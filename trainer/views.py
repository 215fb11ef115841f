"""A step's pictures as the model sees them: drawn for all at once, made for some at a time.

On the device lies what is being computed, and never the whole step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bearloop.contract.recipes import Recipe
from bearloop.transforms import Drawn, draw_changes
from trainer.augment import apply_changes
from trainer.objective import Mix

Rows = NDArray[np.int64]
Pictures = NDArray[np.uint8] | NDArray[np.float32]
"""Presized pixels [n, p, p, 3], or what the head sees of them, [n, features]."""


@dataclass(frozen=True)
class Views:
    """The pictures of one step, and what was drawn for each."""

    pictures: Pictures
    recipe: Recipe
    drawn: Drawn | None
    """None: activations are what the head sees already."""
    mix: Mix | None
    device: torch.device

    @classmethod
    def of(
        cls, pictures: Pictures, recipe: Recipe, *, seed: int, mix: Mix | None, device: torch.device
    ) -> "Views":
        """Draw what changes in a step's pictures."""
        if pictures.dtype == np.float32:
            return cls(pictures, recipe, None, mix, device)
        random = np.random.default_rng(seed)
        drawn = draw_changes(len(pictures), recipe.augment, random=random)
        return cls(pictures, recipe, drawn, mix, device)

    def __len__(self) -> int:
        return len(self.pictures)

    def part(self, place: slice) -> Tensor:
        """Return the pictures of a place, their partners mixed into them."""
        own = self._seen(place)
        if self.mix is None:
            return own
        partner = self.mix.partner[place]
        # Partners lie anywhere in the step: of a part they are made beside it.
        whole = len(own) == len(self)
        others = own[partner] if whole else self._seen(partner.cpu().numpy())
        return self.mix.mixed(own, others, place)

    def _seen(self, rows: slice | Rows) -> Tensor:
        pixels = torch.from_numpy(self.pictures[rows]).to(self.device)
        if self.drawn is None:
            return pixels
        changes, preprocess = self.recipe.augment, self.recipe.preprocess
        changed = apply_changes(pixels, self.drawn.of(rows), changes, preprocess=preprocess)
        return changed.contiguous(memory_format=torch.channels_last)
