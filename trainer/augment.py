"""Random changes of training pictures, on the device, in one interpolation per picture.

What changes is drawn in `bearloop.transforms`; here it is done to the pixels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import Augment
from bearloop.transforms import EDGE, SPARSEST, Drawn, moves, relights


def apply_changes(
    pixels: Tensor, drawn: Drawn, changes: Augment, *, preprocess: Preprocess
) -> Tensor:
    """Do to each picture what was drawn for it: uint8 [n, p, p, 3] -> [n, 3, size, size]."""
    values = _unit_values(pixels)
    if moves(changes) or values.shape[-1] != preprocess.size:
        matrix = torch.from_numpy(drawn.matrices).to(values.device)
        values = sample(values, matrix, preprocess.size, padding=changes.padding)
    if relights(changes):
        lighting = torch.from_numpy(np.stack([drawn.brightness, drawn.contrast]))
        values = _relight(values, lighting.to(values.device))
    return _normalise(values, preprocess)


def sample(values: Tensor, matrix: Tensor, size: int, *, padding: str) -> Tensor:
    """Read [n, 3, size, size] from [n, 3, p, p] at the points that the matrices name."""
    if values.shape[-1] > SPARSEST * size:
        # Bilinear sampling reads 2 x 2 pixels: from a picture much more than twice as large it
        # would skip some, and what it skipped would be noise.
        values = functional.interpolate(values, size=(2 * size, 2 * size), mode="area")
    # Centres of the output's pixels, as grid_sample without aligned corners counts them.
    axis = (torch.arange(size, device=values.device) * 2 + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(1, -1, 3)
    moved = points @ matrix.transpose(1, 2)  # [n, size*size, 3]
    grid = (moved[..., :2] / moved[..., 2:]).reshape(len(values), size, size, 2)
    return functional.grid_sample(
        values, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )


def _unit_values(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _relight(values: Tensor, lighting: Tensor) -> Tensor:
    brightness, contrast = lighting.reshape(2, -1, 1, 1, 1)
    logits = torch.logit(values, eps=EDGE)
    return torch.sigmoid_(logits.add_(brightness).mul_(contrast))


def _normalise(values: Tensor, preprocess: Preprocess) -> Tensor:
    mean = torch.tensor(preprocess.mean, device=values.device).reshape(1, 3, 1, 1)
    scale = 1 / torch.tensor(preprocess.std, device=values.device).reshape(1, 3, 1, 1)
    return (values - mean) * scale
