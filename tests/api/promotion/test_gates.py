"""Gates judge from evidence alone: tables of what passes and what does not."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from api.promotion.gates import (
    Answer,
    ClassPair,
    Evidence,
    Gate,
    Minimum,
    NoClassFalls,
    NotWorseThanChampion,
    Parity,
    judge,
    with_parity,
)
from bearloop.contract.report import Metric, SplitFigures, Summary

SAME = Answer("a" * 64, ((1, 0.7), (2, 0.2)), {1: 0.7, 2: 0.2, 3: 0.1})


def summary(*, error: float = 0.1, log_loss: float = 0.4, images: int = 50) -> Summary:
    figures = SplitFigures(
        images=images,
        error=Metric(value=error, low=0.0, high=1.0, n=images),
        log_loss=log_loss,
        tta_error=None,
        confusion=(),
    )
    return Summary(classes=(1, 2, 3), splits={"valid": figures}, conflicts=0)


def evidence(
    *answers: Answer, of: Summary | None = None, pairs: list[ClassPair] | None = None
) -> Evidence:
    return Evidence(summary=of or summary(), answers=answers, pairs=pairs)


def pair(images: int, before: int, after: int, *, fixed: int = 0, broken: int = 0) -> ClassPair:
    return ClassPair("black", images, before, after, fixed, broken)


@pytest.mark.parametrize(
    ("gate", "of", "passed"),
    [
        (Minimum(at_most=0.1), summary(error=0.1), True),
        (Minimum(at_most=0.1), summary(error=0.3 - 0.2), True),
        (Minimum(at_most=0.1), summary(error=0.1001), False),
        (Minimum(at_most=0.1), summary(error=math.nan), False),
        (Minimum(metric="log_loss", at_most=0.4), summary(log_loss=0.4), True),
        (Minimum(metric="log_loss", at_most=0.39), summary(log_loss=0.4), False),
        (Minimum(metric="log_loss", at_most=9), summary(log_loss=math.inf), False),
        (Minimum(split="test", at_most=1), summary(), False),
        (Minimum(at_most=1), summary(images=0), False),
    ],
)
def test_the_minimum_holds_the_figure_of_its_split(
    gate: Minimum, of: Summary, passed: bool
) -> None:
    assert judge(gate, evidence(of=of)).passed is passed


def test_a_result_says_what_was_seen_and_asked() -> None:
    result = judge(Minimum(at_most=0.05), evidence(of=summary(error=0.1)))
    assert result.name == "minimum"
    assert result.seen == {"value": 0.1, "images": 50}
    assert result.asked == {"metric": "error", "split": "valid", "at_most": 0.05}
    assert result.words == "error on 50 valid images is 0.1, more than 0.05"


@pytest.mark.parametrize(
    ("answered", "passed"),
    [
        ({1: 0.7, 2: 0.2, 3: 0.1}, True),
        ({1: 0.701, 2: 0.199, 3: 0.1}, True),
        ({1: 0.6985, 2: 0.2, 3: 0.1015}, False),
        ({1: 0.7, 2: 0.19, 3: 0.11}, False),
        # Not all classes named: what is not there has probability 0.
        ({1: 0.7}, False),
        ({}, False),
        ({1: math.nan, 2: 0.2, 3: 0.1}, False),
    ],
)
def test_parity_allows_a_thousandth(answered: dict[int, float], passed: bool) -> None:
    assert judge(Parity(), evidence(SAME, SAME._replace(answered=answered))).passed is passed


@pytest.mark.parametrize(
    ("reported", "answered", "passed"),
    [
        # Ahead by 0.001, within the margin: numerics may turn the two.
        (((1, 0.5005), (2, 0.4995)), {1: 0.4999, 2: 0.5001}, True),
        # Ahead by more than the margin: the first class is the answer, and must stay.
        (((1, 0.502), (2, 0.498)), {1: 0.4999, 2: 0.5001}, False),
        (((1, 1.0),), {1: 1.0}, True),
    ],
)
def test_parity_asks_for_the_first_class_beyond_the_margin(
    reported: tuple[tuple[int, float], ...], answered: dict[int, float], passed: bool
) -> None:
    loose = Parity(tolerance=0.01)
    assert judge(loose, evidence(Answer("a", reported, answered))).passed is passed


def test_parity_without_an_image_does_not_pass() -> None:
    result = judge(Parity(), evidence())
    assert not result.passed
    assert "no valid or test image" in result.words


def test_parity_tells_the_largest_difference_and_its_image() -> None:
    off = Answer("b" * 64, ((1, 0.7),), {1: 0.69, 2: 0.31})
    result = judge(Parity(), evidence(SAME, off))
    assert result.seen["largest_difference"] == pytest.approx(0.01)
    assert "bbbb" in result.words


@pytest.mark.parametrize(
    ("fixed", "broken", "passed"),
    [(0, 0, True), (5, 3, True), (0, 5, True), (0, 6, False), (2, 12, False), (30, 12, True)],
)
def test_not_worse_is_a_paired_exact_test(fixed: int, broken: int, passed: bool) -> None:
    pairs = [pair(50, 40, 40, fixed=fixed), pair(50, 40, 40, broken=broken)]
    result = judge(NotWorseThanChampion(), evidence(pairs=pairs))
    assert result.passed is passed
    assert (result.seen["fixed"], result.seen["broken"]) == (fixed, broken)


def test_the_exact_p_is_that_of_the_binomial() -> None:
    # Two-sided, 0 of 6: 2 * (1/2)**6.
    result = judge(NotWorseThanChampion(), evidence(pairs=[pair(50, 40, 34, broken=6)]))
    assert result.seen["p"] == pytest.approx(2 / 64)


@pytest.mark.parametrize(("after", "passed"), [(40, True), (45, True), (38, True), (37, False)])
def test_no_class_may_fall_by_more(after: int, passed: bool) -> None:
    # From 40 of 50 right, 0.04 is two images.
    pairs = [pair(50, 40, after), pair(10, 5, 9), pair(0, 0, 0)]
    assert judge(NoClassFalls(by=0.04), evidence(pairs=pairs)).passed is passed


@pytest.mark.parametrize("gate", [NotWorseThanChampion(), NoClassFalls(by=0.1)])
def test_the_first_promotion_skips_the_comparison_and_says_so(gate: Gate) -> None:
    result = judge(gate, evidence(pairs=None))
    assert result.passed
    assert result.skipped
    assert "no champion" in result.words


@pytest.mark.parametrize("gate", [NotWorseThanChampion(), NoClassFalls(by=0.1)])
def test_a_champion_without_a_shared_image_does_not_pass(gate: Gate) -> None:
    result = judge(gate, evidence(pairs=[]))
    assert not result.passed
    assert "share no held-out image" in result.words


def test_a_sentence_says_whose_figures_it_has() -> None:
    pairs = [pair(50, 40, 40)]
    plain = evidence(SAME, pairs=pairs)
    full = plain._replace(twin=7)
    both = full._replace(champion_twin=5)
    for gate in (Minimum(at_most=0.2), NotWorseThanChampion(), NoClassFalls(by=0.1)):
        words = judge(gate, plain).words
        assert "twin" not in words
        assert judge(gate, full).words == f"of run 7, its twin with splits kept: {words}"
        compared = "" if isinstance(gate, Minimum) else "against run 5, the live model's twin: "
        assert judge(gate, both).words == f"of run 7, its twin with splits kept: {compared}{words}"
    # Parity measures the promoted bundle itself.
    assert judge(Parity(), both) == judge(Parity(), plain)


def test_parity_always_applies() -> None:
    assert with_parity([]) == (Parity(),)
    assert with_parity([Minimum(at_most=1)]) == (Minimum(at_most=1), Parity())
    assert with_parity([Parity(images=4)]) == (Parity(images=4),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "vibes"},
        {"kind": "minimum"},
        {"kind": "minimum", "at_most": -1},
        {"kind": "minimum", "at_most": 1, "split": "train"},
        {"kind": "parity", "images": 0},
        {"kind": "parity", "tolerence": 0.1},
        {"kind": "no-class-falls", "by": 2},
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Gate).validate_python(wrong)
