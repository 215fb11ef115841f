"""The suggestions are fastai's, to the digit; where a curve says nothing they say why."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.lr_suggestions import LEAST_POINTS, RULES, Suggested, suggest, usable

REFERENCE = json.loads((Path(__file__).parent / "fastai_suggestions.json").read_text())
ITERATIONS = 100
RATES = [1e-7 * 1e8 ** (step / ITERATIONS) for step in range(ITERATIONS)]


def suggested(smoothed: list[float], *, noise: float = 0.0) -> Suggested:
    """What a curve suggests whose batches are so noisy."""
    random = np.random.default_rng(0)
    losses = [value + noise * random.standard_normal() for value in smoothed]
    return suggest(RATES[: len(smoothed)], losses, smoothed=smoothed, iterations=ITERATIONS)


def falling_then_rising() -> list[float]:
    return [
        2.0 - 1.2 / (1 + math.exp(-(x - 45) / 6)) + math.exp((x - 80) / 5)
        for x in range(ITERATIONS)
    ]


@pytest.mark.parametrize("name", REFERENCE["curves"])
def test_each_suggestion_is_the_one_of_fastai(name: str) -> None:
    curve: dict[str, Any] = REFERENCE["curves"][name]
    losses = [math.nan if loss is None else loss for loss in curve["losses"]]
    lrs, values = usable(curve["rates"], losses, iterations=curve["iterations"])
    assert {rule: find(lrs, values) for rule, find in RULES.items()} == pytest.approx(
        curve["fastai"], rel=1e-5
    )


def test_the_start_and_the_end_are_left_out_and_nothing_follows_what_is_no_number() -> None:
    losses = [float(place) for place in range(ITERATIONS)]
    lrs, values = usable(RATES, losses, iterations=ITERATIONS)
    assert (values[0], values[-1], len(lrs)) == (10, 94, 85)
    losses[50] = math.nan
    assert len(usable(RATES, losses, iterations=ITERATIONS)[1]) == 40


def test_a_good_curve_has_four_suggestions_and_their_disagreement() -> None:
    found = suggested(falling_then_rising(), noise=0.05)
    assert found.rates.keys() == {"minimum", "steepest", "valley", "slide"}
    assert (found.none, found.reason) == (None, None)
    assert found.disagreement == max(found.rates.values()) / min(found.rates.values())


@pytest.mark.parametrize(
    ("smoothed", "noise", "none", "words"),
    [
        (falling_then_rising()[: 10 + LEAST_POINTS + 4], 0, "too_few_points", "15 points"),
        ([], 0, "too_few_points", "0 points"),
        ([math.nan], 0, "not_finite", "was soon no number"),
        ([2.0] * 12 + [math.nan], 0, "not_finite", "16 are needed"),
        ([2.0] * 100, 0.1, "flat", "falls by 0 at most, from 2"),
        ([2.0 + 0.01 * place for place in range(100)], 0, "flat", "is no learning"),
        ([2.0 - 0.002 * place for place in range(100)], 0.5, "flat", "falls by 0.168"),
    ],
)
def test_a_curve_that_says_nothing_is_told_apart(
    smoothed: list[float], noise: float, none: str, words: str
) -> None:
    found = suggested(smoothed, noise=noise)
    assert (found.none, found.rates, found.disagreement) == (none, {}, None)
    assert words in (found.reason or "")


def test_what_is_noise_in_loud_batches_is_learning_in_quiet_ones() -> None:
    gentle = [2.0 - 0.002 * place for place in range(100)]
    assert suggested(gentle, noise=0.01).none is None


def test_a_loss_that_fell_only_after_it_had_run_away_taught_nothing() -> None:
    away = [2.0] * 40 + [30.0 - 0.4 * place for place in range(60)]
    assert suggested(away, noise=0.1).none == "flat"
