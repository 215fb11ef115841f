"""Augmentation against pictures whose change can be written down."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import NO_AUGMENT, SIDE_ON, Augment
from bearloop.preprocess import normalise
from bearloop.transforms import draw_changes, warp_matrices
from trainer.augment import apply_changes, sample

PLAIN = Preprocess(size=16, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
"""Output in the units of the input, so that a golden picture can be compared as it is."""


def noise(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator, dtype=torch.uint8)


def changed(
    pixels: Tensor, changes: Augment, *, seed: int = 1, preprocess: Preprocess = PLAIN
) -> Tensor:
    drawn = draw_changes(len(pixels), changes, random=np.random.default_rng(seed))
    return apply_changes(pixels, drawn, changes, preprocess=preprocess).permute(0, 2, 3, 1)


def only(**changes: object) -> Augment:
    return NO_AUGMENT.model_copy(update=changes)


def test_no_change_at_equal_sizes_is_the_identity() -> None:
    pixels = noise(3, 16)
    torch.testing.assert_close(changed(pixels, NO_AUGMENT), pixels.float(), atol=1e-4, rtol=0)


def test_output_is_normalised_like_the_servers_input() -> None:
    pixels, spec = noise(2, 16), Preprocess(size=16)
    ours = changed(pixels, NO_AUGMENT, preprocess=spec).permute(0, 3, 1, 2)
    np.testing.assert_allclose(ours.numpy(), normalise(pixels.numpy(), spec), atol=1e-5)


def test_a_flip_is_exactly_the_mirrored_picture_in_about_half_the_cases() -> None:
    pixels = noise(64, 16)
    out = changed(pixels, only(flip=True))
    same = (out - pixels.float()).abs().amax((1, 2, 3)) < 1e-2
    mirrored = (out - pixels.float().flip(2)).abs().amax((1, 2, 3)) < 1e-2
    assert bool((same ^ mirrored).all())
    assert 20 < int(mirrored.sum()) < 44


def test_a_vertical_flip_turns_top_and_bottom() -> None:
    pixels = noise(32, 16)
    out = changed(pixels, only(vertical_flip=True))
    upside_down = (out - pixels.float().flip(1)).abs().amax((1, 2, 3)) < 1e-2
    assert 0 < int(upside_down.sum()) < 32


def test_quarter_turns_and_flips_lay_a_picture_in_all_eight_ways_equally_often() -> None:
    pixels = noise(1, 16).expand(400, 16, 16, 3).contiguous()
    out = changed(pixels, only(flip=True, vertical_flip=True, quarter_turns=True))
    turns = [torch.rot90(pixels[0].float(), k) for k in range(4)]
    ways = torch.stack([*turns, *(turn.flip(1) for turn in turns)])
    near = (out[:, None] - ways).abs().amax((2, 3, 4)) < 1e-2
    assert bool((near.sum(dim=1) == 1).all())
    assert int(near.sum(dim=0).min()) > 30
    assert int(near.sum(dim=0).max()) < 75


def test_a_turn_keeps_the_middle_and_moves_what_lies_outside() -> None:
    side = 33
    pixels = torch.zeros(8, side, side, 3, dtype=torch.uint8)
    pixels[:, 16, 16] = 255
    pixels[:, 16, 28] = 255  # 12 pixels to the right of the middle
    spec = PLAIN.model_copy(update={"size": side})
    out = changed(pixels, only(max_rotate=40.0, p_affine=1.0), preprocess=spec)[..., 0]
    for turned in out:
        assert float(turned[16, 16]) > 200
        turned[14:19, 14:19] = 0
        y, x = divmod(int(turned.argmax()), side)
        assert math.hypot(x - 16, y - 16) == pytest.approx(12, abs=1)
    assert float((out[:, 16, 28] < 100).float().mean()) > 0.5


def test_a_crop_reads_at_least_its_share_of_the_area_and_nothing_outside() -> None:
    side = 64
    ramp = torch.arange(side, dtype=torch.uint8)
    pixels = ramp.reshape(1, 1, side, 1).expand(16, side, side, 3).contiguous()
    out = changed(pixels, only(min_scale=0.25))
    width = (out[:, 0, -1, 0] - out[:, 0, 0, 0]) / (side * 15 / 16)
    assert float(width.min()) > 0.5 - 0.02
    assert float(width.max()) < 1.02
    assert len(set(width.tolist())) > 10


def test_a_warp_keeps_both_upright_edges_straight_and_widens_one_side() -> None:
    across, down = np.array([0.0]), np.array([0.2])
    corners = np.array([[-1.0, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    moved = corners @ warp_matrices(across, down)[0].T
    expected = [[-1.2, -1], [1.2, -1], [-0.8, 1], [0.8, 1]]
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], expected)


@pytest.mark.parametrize(
    ("padding", "rows"), [("reflection", [2, 1, 0]), ("border", [0, 0, 0]), ("zeros", None)]
)
def test_beyond_the_edge_is_the_mirrored_picture_unless_asked_otherwise(
    padding: str, rows: list[int] | None
) -> None:
    values = noise(1, 16).permute(0, 3, 1, 2).float()
    # A window of 22 pixels' side over 16: three beyond each edge.
    wider = torch.diag(torch.tensor([22 / 16, 22 / 16, 1.0]))[None]
    out = sample(values, wider, 22, padding=padding)
    torch.testing.assert_close(out[..., 3:19, 3:19], values, atol=1e-2, rtol=0)
    beyond = torch.zeros(1, 3, 3, 16) if rows is None else values[:, :, rows]
    torch.testing.assert_close(out[..., :3, 3:19], beyond, atol=1e-2, rtol=0)


def test_lighting_is_fastais_in_logit_space() -> None:
    grey = torch.full((200, 16, 16, 3), 128, dtype=torch.uint8)
    out = changed(grey, only(max_lighting=0.2, p_lighting=1.0))[:, 0, 0, 0] / 255
    # Contrast hardly moves mid grey; brightness takes it to 0.4 .. 0.6 of the range.
    assert 0.36 < float(out.min()) < 0.42
    assert 0.58 < float(out.max()) < 0.64


def test_equal_generators_give_equal_pictures_and_others_do_not() -> None:
    pixels = noise(4, 24)
    assert torch.equal(changed(pixels, SIDE_ON, seed=3), changed(pixels, SIDE_ON, seed=3))
    assert not torch.equal(changed(pixels, SIDE_ON, seed=3), changed(pixels, SIDE_ON, seed=4))


def test_pictures_far_larger_than_the_input_are_averaged_not_skipped() -> None:
    stripes = (torch.arange(128) % 2 * 255).to(torch.uint8)
    pixels = stripes.reshape(1, 1, 128, 1).expand(1, 128, 128, 3).contiguous()
    out = changed(pixels, NO_AUGMENT)
    assert float((out - 127.5).abs().max()) < 1


def test_pictures_of_the_usual_presize_are_not_blurred_first() -> None:
    pixels = noise(1, 33)  # as 460 over 224: a little over twice the input
    out = changed(pixels, NO_AUGMENT)
    # One reading of the picture itself at each point, here of the one right below the middle.
    grid = torch.nn.functional.grid_sample(
        pixels.permute(0, 3, 1, 2).float(),
        torch.tensor([[[[1 / 16, 1 / 16]]]]),
        align_corners=False,
    )
    torch.testing.assert_close(out[0, 8, 8], grid[0, :, 0, 0], atol=1e-3, rtol=0)
