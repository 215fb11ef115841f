"""Gates as data, and the pure judgement of a model by them; no training image is ever evidence."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from api.evaluation.comparison import mcnemar
from bearloop.contract.record import Record
from bearloop.contract.report import Summary

FLOAT_SLACK: Final = 1e-9
"""0.3 - 0.2 is more than 0.1 in floating point; no limit is meant that exactly."""


class Minimum(Record):
    """The report's figure on one split must reach a bar."""

    kind: Literal["minimum"] = "minimum"
    metric: Literal["error", "log_loss"] = "error"
    split: Literal["valid", "test"] = "valid"
    at_most: float = Field(ge=0)


class Parity(Record):
    """The packaged server must say what the trainer saw, over HTTP, of the stored files."""

    kind: Literal["parity"] = "parity"
    images: int = Field(default=16, ge=1, le=64)
    """Most valid and test images to ask for; of a run on all images, most images of any split."""
    tolerance: float = Field(default=1e-3, gt=0, le=1)
    """Largest difference of a probability."""
    margin: float = Field(default=2e-3, ge=0, le=1)
    """The first class must agree where the report's first is ahead of its second by more."""


class NotWorseThanChampion(Record):
    """Exact McNemar test on the images that both models were held out on: not surely worse.

    A class that was merged into another one since counts as that one, for both models.
    """

    kind: Literal["not-worse-than-champion"] = "not-worse-than-champion"
    significance: float = Field(default=0.05, gt=0, lt=1)


class NoClassFalls(Record):
    """No class may lose more of its recall, on those same images."""

    kind: Literal["no-class-falls"] = "no-class-falls"
    by: float = Field(ge=0, le=1)


Gate = Annotated[
    Minimum | Parity | NotWorseThanChampion | NoClassFalls, Field(discriminator="kind")
]


class Answer(NamedTuple):
    """One held-out image: what the report says, and what the server answered."""

    sha256: str
    reported: tuple[tuple[int, float], ...]
    """Class id and probability, the likeliest first; not all classes need be there."""
    answered: dict[int, float]
    """By class id; empty when the server refused the picture."""


class ClassPair(NamedTuple):
    """One class on the images held out from champion and challenger alike; counts."""

    name: str
    images: int
    champion_right: int
    challenger_right: int
    fixed: int
    """Wrong by the champion, right by the challenger."""
    broken: int
    """Right by the champion, wrong by the challenger."""


class Evidence(NamedTuple):
    """All that gates look at."""

    summary: Summary
    answers: Sequence[Answer]
    pairs: Sequence[ClassPair] | None
    """None without a champion."""
    twin: int | None = None
    """Number of the run whose summary and pairs these are, where the promoted one was trained on
    all images."""
    champion_twin: int | None = None
    """The same of the champion."""


class GateResult(Record):
    """What one gate found."""

    name: str
    passed: bool
    skipped: bool = False
    """It had nothing to judge by, and so stands in nobody's way."""
    seen: dict[str, float] = Field(default_factory=dict)
    asked: dict[str, float | str] = Field(default_factory=dict)
    words: str


def with_parity(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    """Add the parity gate, which always applies, unless it is named."""
    named = any(isinstance(gate, Parity) for gate in gates)
    return tuple(gates) if named else (*gates, Parity())


def judge(gate: Gate, evidence: Evidence) -> GateResult:
    """Hold the evidence against one gate."""
    match gate:
        case Minimum():
            return _of_twin(_minimum(gate, evidence.summary), evidence)
        case Parity():
            return _parity(gate, evidence.answers)
        case NotWorseThanChampion():
            return _of_twin(_not_worse(gate, evidence.pairs), evidence, paired=True)
        case NoClassFalls():
            return _of_twin(_no_class_falls(gate, evidence.pairs), evidence, paired=True)


def _of_twin(result: GateResult, evidence: Evidence, *, paired: bool = False) -> GateResult:
    """Say whose figures they are, where a model was trained on all images and so has none."""
    words, champion = result.words, evidence.champion_twin
    if paired and champion is not None:
        words = f"against run {champion}, the live model's twin: {words}"
    if evidence.twin is not None:
        words = f"of run {evidence.twin}, its twin with splits kept: {words}"
    return result.model_copy(update={"words": words})


def _minimum(gate: Minimum, summary: Summary) -> GateResult:
    figures = summary.splits.get(gate.split)
    if figures is None or figures.images == 0:
        return _result(gate, passed=False, words=f"the report has no {gate.split} images")
    value = figures.error.value if gate.metric == "error" else figures.log_loss
    # Written so that a figure which is not a number does not pass.
    passed = value <= gate.at_most + FLOAT_SLACK
    words = f"{gate.metric} on {figures.images} {gate.split} images is {value:.4g}"
    verdict = "at most" if passed else "more than"
    seen = {"value": value, "images": figures.images}
    return _result(gate, passed=passed, seen=seen, words=f"{words}, {verdict} {gate.at_most:g}")


def _parity(gate: Parity, answers: Sequence[Answer]) -> GateResult:
    if not answers:
        words = "no valid or test image to ask about: train on a version with a valid split"
        return _result(gate, passed=False, words=words)
    differences = [_difference(answer) for answer in answers]
    worst = max(range(len(answers)), key=differences.__getitem__)
    turned = [answer for answer in answers if _turned(answer, gate.margin)]
    # All, not the largest: what is not a number is no largest, and must not pass.
    near = all(difference <= gate.tolerance + FLOAT_SLACK for difference in differences)
    passed = near and not turned
    words = (
        f"{len(answers)} images: the largest difference of a probability is "
        f"{differences[worst]:.2g} (image {answers[worst].sha256[:12]}), at most "
        f"{gate.tolerance:g} is asked; the first class differs in {len(turned)}"
    )
    seen: dict[str, float] = {
        "images": len(answers),
        "largest_difference": differences[worst],
        "other_first_class": len(turned),
    }
    return _result(gate, passed=passed, seen=seen, words=words)


def _difference(answer: Answer) -> float:
    # A class that the server did not name counts as probability 0, a refused picture as 1.
    if not answer.answered:
        return 1.0
    return max(
        (abs(p - answer.answered.get(class_id, 0.0)) for class_id, p in answer.reported),
        default=1.0,
    )


def _turned(answer: Answer, margin: float) -> bool:
    if not answer.answered or not answer.reported:
        return True
    first, p = answer.reported[0]
    second = answer.reported[1][1] if len(answer.reported) > 1 else 0.0
    likeliest = max(answer.answered, key=answer.answered.__getitem__)
    return p - second > margin and likeliest != first


def _not_worse(gate: NotWorseThanChampion, pairs: Sequence[ClassPair] | None) -> GateResult:
    if not pairs:
        return _skipped(gate, pairs)
    images = sum(pair.images for pair in pairs)
    fixed, broken = sum(pair.fixed for pair in pairs), sum(pair.broken for pair in pairs)
    p = mcnemar(fixed, broken)
    passed = broken <= fixed or p >= gate.significance
    words = f"on the same {images} held-out images it mends {fixed} and breaks {broken} (p {p:.3g})"
    seen = {"images": images, "fixed": fixed, "broken": broken, "p": p}
    return _result(gate, passed=passed, seen=seen, words=words)


def _no_class_falls(gate: NoClassFalls, pairs: Sequence[ClassPair] | None) -> GateResult:
    judged = [pair for pair in pairs or () if pair.images]
    if not judged:
        return _skipped(gate, pairs)
    falls = [(pair.champion_right - pair.challenger_right) / pair.images for pair in judged]
    worst = max(range(len(judged)), key=falls.__getitem__)
    passed = falls[worst] <= gate.by + FLOAT_SLACK
    words = (
        f"{judged[worst].name} falls most: its recall loses {falls[worst]:.3g} on "
        f"{judged[worst].images} images, at most {gate.by:g} is asked"
        if falls[worst] > 0
        else "no class falls"
    )
    return _result(gate, passed=passed, seen={"largest_fall": falls[worst]}, words=words)


def _skipped(gate: Gate, pairs: Sequence[ClassPair] | None) -> GateResult:
    why = "there is no champion yet" if pairs is None else "the two share no held-out image"
    # Without one shared image nothing is known: that passes only when there is no champion.
    return _result(gate, passed=pairs is None, skipped=pairs is None, words=why)


def _result(
    gate: Gate,
    *,
    passed: bool,
    words: str,
    seen: dict[str, float] | None = None,
    skipped: bool = False,
) -> GateResult:
    asked = gate.model_dump(exclude={"kind"})
    return GateResult(
        name=gate.kind, passed=passed, skipped=skipped, seen=seen or {}, asked=asked, words=words
    )
