"""The random changes of training pictures: their draws, and how often each comes."""

import numpy as np
import pytest

from bearloop.contract.recipes import NO_AUGMENT, SIDE_ON, Augment
from bearloop.transforms import Drawn, draw_changes, moves, relights


def drawn(changes: Augment, *, count: int = 4000, seed: int = 1) -> Drawn:
    return draw_changes(count, changes, random=np.random.default_rng(seed))


def only(**changes: object) -> Augment:
    return NO_AUGMENT.model_copy(update=changes)


def test_a_seeds_draws_stay_what_they_were() -> None:
    golden = drawn(SIDE_ON, count=2, seed=3)
    matrices = [
        [[-0.7858, -0.0501, -0.1081], [-0.0559, 0.7673, 0.0087], [0.1994, 0.1505, 1.0]],
        [[0.8916, 0.0006, 0.1851], [0.0035, 0.8572, 0.0186], [0.1894, 0.0328, 1.0]],
    ]
    np.testing.assert_allclose(golden.matrices, matrices, atol=6e-5)
    np.testing.assert_allclose(golden.brightness, [0.1286, 0.3487], atol=6e-5)
    np.testing.assert_allclose(golden.contrast, [0.8775, 1.0598], atol=6e-5)


def test_the_presets_draw_alike_what_they_share() -> None:
    side_on, mirrored = drawn(SIDE_ON), drawn(SIDE_ON.model_copy(update={"vertical_flip": True}))
    np.testing.assert_array_equal(side_on.brightness, mirrored.brightness)
    upright = mirrored.matrices * np.sign(mirrored.matrices[:, 1:2, 1:2] * [[0, 1, 0]] + [1, 0, 1])
    np.testing.assert_array_equal(side_on.matrices, upright)


def test_zoom_and_turn_come_as_often_as_said_and_evenly_between_their_ends() -> None:
    zoom = 1 / drawn(only(max_zoom=1.5, p_affine=0.75)).matrices[:, 0, 0]
    assert float((zoom == 1).mean()) == pytest.approx(0.25, abs=0.03)
    assert float(zoom[zoom != 1].mean()) == pytest.approx(1.25, abs=0.02)
    assert 1 <= float(zoom.min()) < float(zoom.max()) <= 1.5
    turn = drawn(only(max_rotate=20.0, p_affine=0.75)).matrices
    degrees = np.rad2deg(np.arctan2(turn[:, 0, 1], turn[:, 0, 0]))
    assert float((degrees == 0).mean()) == pytest.approx(0.25, abs=0.03)
    assert float(np.abs(degrees[degrees != 0]).mean()) == pytest.approx(10, abs=0.5)
    assert float(np.abs(degrees).max()) <= 20


def test_a_crops_area_is_even_between_its_share_and_all_and_stays_inside() -> None:
    crops = drawn(only(min_scale=0.36)).matrices
    area = crops[:, 0, 0] * crops[:, 1, 1]
    assert float(area.mean()) == pytest.approx(0.68, abs=0.01)
    assert 0.36 <= float(area.min()) < float(area.max()) <= 1
    assert float((crops[:, 0, 0] + np.abs(crops[:, :2, 2]).max(axis=1)).max()) <= 1 + 1e-6


def test_lighting_is_even_in_the_share_and_in_the_logarithm() -> None:
    light = drawn(only(max_lighting=0.2, p_lighting=1.0))
    share = 1 / (1 + np.exp(-light.brightness))
    assert (float(share.min()), float(share.max())) == pytest.approx((0.4, 0.6), abs=2e-3)
    ends = (float(light.contrast.min()), float(light.contrast.max()))
    assert ends == pytest.approx((0.8, 1.25), abs=2e-3)
    assert float(np.log(light.contrast).mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("one", [{"max_rotate": 20.0}, {"max_zoom": 1.5}, {"max_warp": 0.2}])
def test_what_is_laid_over_none_moves_as_many_pictures_as_elsewhere(one: dict[str, float]) -> None:
    assert moves(only(**one))
    assert not relights(only(**one))
    still = np.isclose(drawn(only(**one)).matrices, np.eye(3)).all(axis=(1, 2)).mean()
    # A warp is two, of which either comes alone.
    assert float(still) == pytest.approx(0.25**2 if "max_warp" in one else 0.25, abs=0.03)


def test_lighting_may_be_laid_over_none() -> None:
    lit = only(max_lighting=0.2)
    assert relights(lit)
    assert not moves(lit)
    assert float((drawn(lit).brightness != 0).mean()) == pytest.approx(0.75, abs=0.03)


def test_what_is_switched_off_changes_nothing() -> None:
    plain = drawn(NO_AUGMENT, count=3)
    np.testing.assert_array_equal(plain.matrices, np.tile(np.eye(3), (3, 1, 1)))
    assert not plain.brightness.any()
    assert (plain.contrast == 1).all()
    assert not moves(NO_AUGMENT)
    assert not relights(NO_AUGMENT)
    for one in ("flip", "vertical_flip", "quarter_turns"):
        assert moves(only(**{one: True}))
