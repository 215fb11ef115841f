"""What is shown without torch is what the trainer's device makes of the same draws."""

import numpy as np
import pytest
import torch

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import NO_AUGMENT, SIDE_ON, TOP_DOWN, Augment
from bearloop.preprocess import read_picture, to_pixels
from bearloop.sampling import change_pictures
from bearloop.transforms import draw_changes
from tests.house.source import ROOT
from trainer.augment import apply_changes

BEARS = ROOT.parent / "shared" / "data" / "bears"
PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
WILD = Augment(max_rotate=180, max_zoom=2, min_zoom=0.5, max_warp=0.5, max_lighting=0.5)


def photographs(side: int) -> list[np.ndarray]:
    """Take six of the lesson's, or where they are not six made smooth and sharp in parts."""
    found = sorted(BEARS.glob("*/*.jpg"))[::80][:6]
    spec = Preprocess(size=side)
    if found:
        return [to_pixels(read_picture(path.read_bytes()), spec) for path in found]
    y, x = np.mgrid[:side, :side]
    waves = [np.sin(x / (3 + n)) + np.cos(y / (5 + n)) + (x > y) for n in range(6)]
    return [np.repeat((40 * wave + 90).astype(np.uint8)[..., None], 3, axis=2) for wave in waves]


@pytest.mark.parametrize(
    ("changes", "presize"),
    [
        (NO_AUGMENT, 64),
        (NO_AUGMENT, 131),
        (SIDE_ON, 131),
        (TOP_DOWN, 131),
        (SIDE_ON, 200),  # more than 2.5 times the input: averaged first
        (WILD, 131),
        (WILD.model_copy(update={"padding": "border"}), 131),
        (WILD.model_copy(update={"padding": "zeros"}), 131),
    ],
)
def test_both_ways_make_the_same_picture_of_a_photograph(changes: Augment, presize: int) -> None:
    pixels, seed = photographs(presize), 5
    mean, std = PLAIN
    theirs = apply_changes(
        torch.from_numpy(np.stack(pixels)),
        draw_changes(len(pixels), changes, random=np.random.default_rng(seed)),
        changes,
        preprocess=Preprocess(size=64, mean=mean, std=std),
    )
    ours = np.stack(list(change_pictures(pixels, changes, count=6, size=64, seed=seed)))
    apart = np.abs(ours - theirs.permute(0, 2, 3, 1).numpy())
    # Half a level of 255 is rounding.
    assert float(apart.max()) < 1
    assert float(apart.mean()) < 0.3
