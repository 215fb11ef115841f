"""What changes at random in a training picture: drawn here, as matrices and lighting; pure.

Points are in -1..1 across the picture, x to the right and y down. Every change of shape is a
3 x 3 matrix that says where an output point is read from; their product is sampled once, by the
trainer on its device and by `bearloop.sampling` where there is none.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.recipes import Augment

Floats = NDArray[np.floating]

EDGE: Final = 1e-7
"""Least distance of a value from black and white before its logit is taken (fastai's)."""
SPARSEST: Final = 2.5
"""Most pixels from one point that is read to the next. fastai has 2, which 460 over 224 just
exceeds: to average those pictures down to 448 took 8 % of a step's time (20 % of a frozen one's),
and blurred them for nothing."""


class Drawn(NamedTuple):
    """The changes of n pictures."""

    matrices: NDArray[np.float32]
    """Where each output point is read from, [n, 3, 3]."""
    brightness: NDArray[np.float32]
    """Added to the logit of every value, [n]."""
    contrast: NDArray[np.float32]
    """What the logit is then multiplied by, [n]."""

    def of(self, rows: slice | NDArray[np.int64]) -> "Drawn":
        """Return the changes of some of the pictures."""
        return Drawn(*(part[rows] for part in self))


def draw_changes(count: int, changes: Augment, *, random: np.random.Generator) -> Drawn:
    """Draw the changes of `count` pictures: crop, zoom, turn, warp, flips, then lighting.

    The order of draws is fixed, whatever is switched on: one preset's views are comparable to
    another's under one seed.
    """
    matrices = _random_matrices(count, changes, random)
    brightness, contrast = _random_lighting(count, changes, random)
    return Drawn(*(part.astype(np.float32) for part in (matrices, brightness, contrast)))


def moves(changes: Augment) -> bool:
    """Say whether any point may be read from elsewhere."""
    turned = changes.max_rotate or changes.max_warp
    moved = changes.p_affine and (turned or (changes.min_zoom, changes.max_zoom) != (1, 1))
    flipped = changes.flip or changes.vertical_flip or changes.quarter_turns
    return bool(moved or flipped or changes.min_scale < 1)


def relights(changes: Augment) -> bool:
    """Say whether any value may become lighter or darker."""
    return bool(changes.max_lighting and changes.p_lighting)


def warp_matrices(across: Floats, down: Floats) -> Floats:
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


def _random_matrices(count: int, changes: Augment, random: np.random.Generator) -> Floats:
    """Compose crop, zoom, turn, warp, quarter turns and flips: float [n, 3, 3]."""

    def draw(low: float, high: float) -> Floats:
        return low + (high - low) * random.random(count)

    def happens(p: float) -> NDArray[np.bool_]:
        return random.random(count) < p

    p = changes.p_affine
    crop = np.sqrt(draw(changes.min_scale, 1))
    cropped = _window(crop, draw(-1, 1), draw(-1, 1))
    zoom = np.where(happens(p), 1 / draw(changes.min_zoom, changes.max_zoom), 1.0)
    zoomed = _window(zoom, draw(-1, 1), draw(-1, 1))
    most = changes.max_rotate
    turned = _turn(np.where(happens(p), draw(-most, most), 0.0))
    warp = changes.max_warp
    across = np.where(happens(p), draw(-warp, warp), 0.0)
    down = np.where(happens(p), draw(-warp, warp), 0.0)
    flipped = _flip(happens(0.5 * changes.flip), happens(0.5 * changes.vertical_flip))
    quartered = _quarter_turn(happens(0.5 * changes.quarter_turns))
    return cropped @ zoomed @ turned @ warp_matrices(across, down) @ quartered @ flipped


def _random_lighting(
    count: int, changes: Augment, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw what is added to a logit, and what it is then multiplied by."""
    most, p = changes.max_lighting, changes.p_lighting
    draws = random.random((4, count))
    share = 0.5 + most * (draws[0] - 0.5)
    brightness = np.log(share / (1 - share))
    contrast = np.exp((2 * draws[1] - 1) * -math.log(1 - most))
    return np.where(draws[2] < p, brightness, 0.0), np.where(draws[3] < p, contrast, 1.0)


def _window(side: Floats, x: Floats, y: Floats) -> Floats:
    """Read from a square of `side` times the picture's, placed by x and y in -1..1."""
    matrix = _identities(len(side))
    matrix[:, 0, 0] = matrix[:, 1, 1] = side
    matrix[:, 0, 2] = (1 - side) * x
    matrix[:, 1, 2] = (1 - side) * y
    return matrix


def _turn(degrees: Floats) -> Floats:
    matrix = _identities(len(degrees))
    angle = np.deg2rad(degrees)
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 0, 1] = np.sin(angle)
    matrix[:, 1, 0] = -np.sin(angle)
    return matrix


def _quarter_turn(turned: NDArray[np.bool_]) -> Floats:
    """Turn by 90 degrees; beside both flips that makes all eight ways to lay a square equal."""
    matrix = _identities(len(turned))
    matrix[turned, :2, :2] = ((0, 1), (-1, 0))
    return matrix


def _flip(sideways: NDArray[np.bool_], upside_down: NDArray[np.bool_]) -> Floats:
    matrix = _identities(len(sideways))
    matrix[sideways, 0, 0] = -1
    matrix[upside_down, 1, 1] = -1
    return matrix


def _identities(count: int) -> Floats:
    return np.tile(np.eye(3), (count, 1, 1))
