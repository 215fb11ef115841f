"""Random changes of training pictures, on the device, in one interpolation per picture.

Points are in -1..1 across the picture, x to the right and y down. Every change of shape is a
3 x 3 matrix that says where an output point is read from; their product is sampled once.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import Augment

EDGE: Final = 1e-7
"""Least distance of a value from black and white before its logit is taken (fastai's)."""
SPARSEST: Final = 2.5
"""Most pixels from one point that is read to the next. fastai has 2, which 460 over 224 just
exceeds: to average those pictures down to 448 took 8 % of a step's time (20 % of a frozen one's),
and blurred them for nothing."""


def augment(
    pixels: Tensor, changes: Augment, *, preprocess: Preprocess, generator: torch.Generator
) -> Tensor:
    """Change presized pictures at random: uint8 [n, p, p, 3] -> normalised [n, 3, size, size].

    All draws come from `generator`, a CPU one, so that every device sees the same changes.
    """
    count = len(pixels)
    # A fixed order of draws, whatever is switched on: one preset's views are comparable to
    # another's under one seed.
    matrix = _random_matrices(count, changes, generator)
    lighting = _random_lighting(count, changes, generator)
    values = _unit_values(pixels)
    if not _is_plain(changes) or values.shape[-1] != preprocess.size:
        values = _sample(values, matrix.to(values.device), preprocess.size)
    if changes.max_lighting and changes.p_lighting:
        values = _relight(values, lighting.to(values.device))
    return _normalise(values, preprocess)


def _is_plain(changes: Augment) -> bool:
    moved = changes.p_affine and (
        changes.max_rotate or changes.max_warp or (changes.min_zoom, changes.max_zoom) != (1, 1)
    )
    return not (moved or changes.flip or changes.vertical_flip or changes.min_scale < 1)


def _random_matrices(count: int, changes: Augment, generator: torch.Generator) -> Tensor:
    """Compose crop, zoom, turn, warp and flips: float [n, 3, 3]."""

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def happens(p: float) -> Tensor:
        return torch.rand(count, generator=generator) < p

    p = changes.p_affine
    crop = draw(changes.min_scale, 1).sqrt()
    cropped = _window(crop, draw(-1, 1), draw(-1, 1))
    zoom = torch.where(happens(p), 1 / draw(changes.min_zoom, changes.max_zoom), 1.0)
    zoomed = _window(zoom, draw(-1, 1), draw(-1, 1))
    most = changes.max_rotate
    turned = _turn(torch.where(happens(p), draw(-most, most), 0.0))
    warp = changes.max_warp
    warped = _warp(
        torch.where(happens(p), draw(-warp, warp), 0.0),
        torch.where(happens(p), draw(-warp, warp), 0.0),
    )
    flipped = _flip(happens(0.5 * changes.flip), happens(0.5 * changes.vertical_flip))
    return cropped @ zoomed @ turned @ warped @ flipped


def _random_lighting(count: int, changes: Augment, generator: torch.Generator) -> Tensor:
    """Draw what is added to a logit and what it is then multiplied by: float [2, n]."""
    most = changes.max_lighting
    draws = torch.rand(4, count, generator=generator)
    brightness = torch.logit(0.5 + most * (draws[0] - 0.5))
    contrast = torch.exp((2 * draws[1] - 1) * -math.log(1 - most))
    return torch.stack(
        [
            torch.where(draws[2] < changes.p_lighting, brightness, 0.0),
            torch.where(draws[3] < changes.p_lighting, contrast, 1.0),
        ]
    )


def _window(side: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read from a square of `side` times the picture's, placed by x and y in -1..1."""
    matrix = _identities(len(side))
    matrix[:, 0, 0] = matrix[:, 1, 1] = side
    matrix[:, 0, 2] = (1 - side) * x
    matrix[:, 1, 2] = (1 - side) * y
    return matrix


def _turn(degrees: Tensor) -> Tensor:
    matrix = _identities(len(degrees))
    angle = torch.deg2rad(degrees)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
    matrix[:, 0, 1] = torch.sin(angle)
    matrix[:, 1, 0] = -torch.sin(angle)
    return matrix


def _warp(across: Tensor, down: Tensor) -> Tensor:
    """Look from the side: widen one edge by the given share and narrow the one opposite.

    y -> (y + b) / (1 + b y) keeps both edges in place while x -> x (1 - b^2) / (1 + b y) scales
    the upper edge by 1 + b and the lower by 1 - b: fastai's symmetric warp in closed form.
    """
    tilted = _identities(len(down))
    tilted[:, 0, 0] = 1 - down**2
    tilted[:, 1, 2] = tilted[:, 2, 1] = down
    swung = _identities(len(across))
    swung[:, 1, 1] = 1 - across**2
    swung[:, 0, 2] = swung[:, 2, 0] = across
    return tilted @ swung


def _flip(sideways: Tensor, upside_down: Tensor) -> Tensor:
    matrix = _identities(len(sideways))
    matrix[sideways, 0, 0] = -1
    matrix[upside_down, 1, 1] = -1
    return matrix


def _identities(count: int) -> Tensor:
    return torch.eye(3).repeat(count, 1, 1)


def _unit_values(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _sample(values: Tensor, matrix: Tensor, size: int) -> Tensor:
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
        values, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _relight(values: Tensor, lighting: Tensor) -> Tensor:
    brightness, contrast = lighting.reshape(2, -1, 1, 1, 1)
    logits = torch.logit(values, eps=EDGE)
    return torch.sigmoid_(logits.add_(brightness).mul_(contrast))


def _normalise(values: Tensor, preprocess: Preprocess) -> Tensor:
    mean = torch.tensor(preprocess.mean, device=values.device).reshape(1, 3, 1, 1)
    scale = 1 / torch.tensor(preprocess.std, device=values.device).reshape(1, 3, 1, 1)
    return (values - mean) * scale
