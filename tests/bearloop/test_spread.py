"""A difference is told from chance: of the images, and of the seeds."""

from statistics import stdev

import numpy as np
import pytest
from scipy.stats import t

from bearloop.spread import T_95, in_words, judge, seeds_apart, spread_of, t_95

ERRORS = [0.04, 0.06, 0.05, 0.03, 0.07]


def verdict(
    difference: float, *, half: float = 0.01, apart: float | None = None, images: int = 400
) -> tuple[str, str]:
    ends = (difference - half, difference + half)
    found = judge(difference, ends=ends, images=images, flipped=20, apart=apart)
    return found.code, found.words


def test_the_quantiles_are_students() -> None:
    for freedom in range(1, len(T_95) + 1):
        assert t_95(freedom) == pytest.approx(t.ppf(0.975, freedom), abs=6e-4)
    for freedom in (31, 50, 95, 1000):
        assert t_95(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=2e-3)


def test_a_spread_has_the_means_interval() -> None:
    spread = spread_of(ERRORS)
    assert spread is not None
    assert (spread.least, spread.median, spread.most) == (0.03, 0.05, 0.07)
    low, high = t.interval(0.95, 4, loc=0.05, scale=stdev(ERRORS) / 5**0.5)
    assert (spread.low, spread.high) == pytest.approx((low, high), rel=1e-3)
    assert in_words(spread).startswith("5 seeds: 3.0% to 7.0%, mean 5.0% (3.0% to 7.0%)")


def test_one_seed_has_no_spread() -> None:
    assert spread_of([0.05]) is None
    assert seeds_apart([[0.05], [0.06]]) is None
    assert "--seeds 5" in in_words(None)


def test_two_runs_lie_within_what_seeds_make_in_nineteen_of_twenty_cases() -> None:
    draws = np.random.default_rng(1).normal(0.05, 0.01, (4000, 7))
    inside = [abs(a - b) <= (seeds_apart([seeds]) or 0) for *seeds, a, b in draws.tolist()]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_groups_are_pooled_about_their_own_means() -> None:
    alone = seeds_apart([[0.04, 0.06]])
    both = seeds_apart([[0.04, 0.06], [0.54, 0.56], [0.9]])
    assert alone is not None
    assert both == pytest.approx(alone * t_95(2) / t_95(1))


def test_a_difference_inside_the_spread_is_called_that() -> None:
    code, words = verdict(-0.03, apart=0.04)
    assert code == "inside_spread"
    assert "the difference, -3.0%, lies inside the spread of the seeds" in words
    assert "4.0%" in words


def test_a_difference_inside_its_interval_says_how_many_images_would_tell() -> None:
    code, words = verdict(-0.01, half=0.02, apart=0.001)
    assert code == "inside_interval"
    assert "lies inside its 95 % interval, -3.0% to +1.0%" in words
    # The normal quantile squared, times the share that flipped, over the difference squared.
    assert "some 1921 would be enough" in words
    assert verdict(0.0)[1].endswith("400 images tell no difference")


def test_a_real_difference_names_the_better_run() -> None:
    assert verdict(-0.05, apart=0.02)[0] == "b_better"
    assert "the second run is better" in verdict(-0.05, apart=0.02)[1]
    code, words = verdict(0.05)
    assert code == "a_better"
    assert words.endswith("train with --seeds 5")
