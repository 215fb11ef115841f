"""The four failures by their names: of the lesson's own tables, and of curves that were made."""

from pathlib import Path

import pytest

from bearloop.contract.runs import Curves, EpochPoint, LrFind, StepPoint
from bearloop.diagnosis import Finding, diagnose
from bearloop.intervals import wilson

MADE = Path(__file__).parents[1] / "trainer" / "failures"
"""`python -m tests.trainer.failures` made them, on digits."""
KINDS = {"too_many_epochs": 4}
"""Of digits, where not all ten."""
DIGITS = 200
"""Valid images of those curves."""
BEARS = 141
"""Valid images of the lesson."""
HEALTHY = [
    (1.030236, 0.179226, 0.028369),
    (0.561508, 0.055464, 0.014184),
    (0.396103, 0.053801, 0.014184),
    (0.316883, 0.050197, 0.021277),
]
"""Train loss, valid loss and error of each epoch; fast.ai course v3, lesson 2."""
TOO_HIGH = [(12.220007, 1144188288.0, 0.765957)]
TOO_LOW = [
    (1.349151, 1.062807, 0.609929),
    (1.373262, 1.045115, 0.546099),
    (1.346169, 1.006288, 0.468085),
    (1.334486, 0.978713, 0.453901),
    (1.320978, 0.978108, 0.446809),
]
TOO_FEW = [(0.602823, 0.119616, 0.049645)]
FORTY = [
    (1.513021, 1.041628, 0.507326), (1.290093, 0.994758, 0.443223), (1.185764, 0.936145, 0.410256),
    (1.117229, 0.838402, 0.322344), (1.022635, 0.734872, 0.252747), (0.951374, 0.627288, 0.192308),
    (0.916111, 0.558621, 0.184982), (0.839068, 0.503755, 0.177656), (0.749610, 0.433475, 0.144689),
    (0.678583, 0.367560, 0.124542), (0.615280, 0.327029, 0.100733), (0.558776, 0.298989, 0.095238),
    (0.518109, 0.266998, 0.084249), (0.476290, 0.257858, 0.084249), (0.436865, 0.227299, 0.067766),
    (0.457189, 0.236593, 0.078755), (0.420905, 0.240185, 0.080586), (0.395686, 0.255465, 0.082418),
    (0.373232, 0.263469, 0.080586), (0.348988, 0.258300, 0.080586), (0.324616, 0.261346, 0.080586),
    (0.311310, 0.236431, 0.071429), (0.328342, 0.245841, 0.069597), (0.306411, 0.235111, 0.064103),
    (0.289134, 0.227465, 0.069597), (0.284814, 0.226022, 0.064103), (0.268398, 0.222791, 0.067766),
    (0.255431, 0.227751, 0.073260), (0.240742, 0.235949, 0.071429), (0.227140, 0.225221, 0.075092),
    (0.213877, 0.214789, 0.069597), (0.201631, 0.209382, 0.062271), (0.189988, 0.210684, 0.065934),
    (0.181293, 0.214666, 0.073260), (0.184095, 0.222575, 0.073260), (0.194615, 0.229198, 0.076923),
    (0.186165, 0.218206, 0.075092), (0.176623, 0.207198, 0.062271), (0.166854, 0.207256, 0.065934),
    (0.162692, 0.206044, 0.062271),
]  # fmt: skip
"""Meant to overfit, and said in the lesson to do so "maybe": its error ends at its lowest."""
Epochs = list[tuple[float, float, float]]


def curves(epochs: Epochs, *, lr: float = 3e-3, found: float | None = None) -> Curves:
    """Curves of these epochs, with a step for each, whose loss is the epoch's."""
    find = LrFind(
        stage="whole",
        points=(),
        end="finished",
        suggestions={} if found is None else {"valley": found},
        no_suggestion=None,
        reason=None,
        disagreement=None,
        lr=found,
    )
    return Curves(
        epochs=tuple(
            EpochPoint(
                stage="whole",
                epoch=number,
                train_loss=train,
                valid_loss=valid,
                error_rate=error,
                seconds=14,
            )
            for number, (train, valid, error) in enumerate(epochs, 1)
        ),
        steps=tuple(
            StepPoint(step=number, loss=epoch[0], lr=lr, momentum=0.9)
            for number, epoch in enumerate(epochs, 1)
        ),
        lr_finds=(find,),
    )


def found_in(given: Curves, *, classes: int = 3, images: int = BEARS) -> list[Finding]:
    wrong = round(given.epochs[-1].error_rate * images)
    return list(diagnose(given, classes=classes, error=wilson(wrong, images)))


def codes(findings: list[Finding]) -> list[str]:
    assert all(finding.evidence and finding.way_out for finding in findings)
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("epochs", "code"),
    [
        (HEALTHY, None),
        (TOO_HIGH, "lr_too_high"),
        (TOO_LOW, "lr_too_low"),
        (TOO_FEW, "too_few_epochs"),
        (FORTY, None),
    ],
    ids=["healthy", "lr .5", "lr 1e-5", "one epoch", "forty epochs"],
)
def test_the_lesson_s_own_tables_are_named_as_the_lesson_does(
    epochs: Epochs, code: str | None
) -> None:
    images = 546 if epochs is FORTY else BEARS
    assert codes(found_in(curves(epochs), images=images)) == ([] if code is None else [code])


def test_of_epochs_that_were_not_measured_nothing_is_said() -> None:
    given = curves(TOO_HIGH)
    assert codes(found_in(given)) == ["lr_too_high"]
    none = {"valid_loss": None, "error_rate": None}
    epochs = tuple(point.model_copy(update=none) for point in given.epochs)
    unmeasured = given.model_copy(update={"epochs": epochs})
    assert diagnose(unmeasured, classes=3, error=wilson(3, BEARS)) == ()


@pytest.mark.parametrize("path", sorted(MADE.glob("*.json")), ids=lambda path: path.stem)
def test_curves_that_were_made_to_fail_are_named(path: Path) -> None:
    made = Curves.model_validate_json(path.read_bytes())
    expected = [] if path.stem == "healthy" else [path.stem]
    assert codes(found_in(made, classes=KINDS.get(path.stem, 10), images=DIGITS)) == expected


def test_a_training_loss_below_the_valid_loss_alone_is_nothing() -> None:
    made = Curves.model_validate_json((MADE / "healthy.json").read_bytes())
    assert made.epochs[-1].train_loss < made.epochs[-1].valid_loss / 3
    assert not found_in(made, classes=10, images=DIGITS)
    gap = [(1.0, 0.5, 0.2), (0.3, 0.4, 0.1), (0.05, 0.35, 0.06), (0.01, 0.34, 0.05)]
    assert not found_in(curves(gap))


def test_too_many_epochs_propose_as_many_as_the_valid_loss_fell() -> None:
    made = Curves.model_validate_json((MADE / "too_many_epochs.json").read_bytes())
    lowest = min(made.epochs, key=lambda point: point.valid_loss).epoch
    (finding,) = found_in(made, classes=4, images=DIGITS)
    assert finding.epochs == lowest < 40
    assert f"about {lowest} epochs" in finding.way_out


def test_the_epochs_proposed_are_those_of_the_last_stage() -> None:
    rising = [(0.9, 0.6, 0.2), (0.5, 0.4, 0.1), (0.3, 0.5, 0.2), (0.1, 0.6, 0.2), (0.05, 0.7, 0.2)]
    made = curves(rising)
    frozen = made.epochs[0].model_copy(update={"stage": "frozen"})
    staged = made.model_copy(update={"epochs": (frozen, *made.epochs[1:])})
    (finding,) = found_in(staged)
    assert (finding.code, finding.epochs) == ("too_many_epochs", 1)


def test_a_training_loss_that_bounces_in_the_last_epoch_hides_nothing() -> None:
    bounced = [(0.9, 0.6, 0.2), (0.5, 0.4, 0.1), (0.3, 0.5, 0.2), (0.1, 0.6, 0.2), (0.6, 0.7, 0.2)]
    (finding,) = found_in(curves(bounced))
    assert finding.code == "too_many_epochs"
    assert "the training loss fell from 0.5 to 0.1" in finding.evidence


def test_an_error_that_rises_by_chance_is_no_finding_and_one_beyond_chance_is() -> None:
    def risen(last: float) -> Epochs:
        errors = (0.2, 0.1, 0.11, 0.12, last)
        return [(1 / (n + 1), 0.4, error) for n, error in enumerate(errors)]

    assert not found_in(curves(risen(0.13)))
    assert codes(found_in(curves(risen(0.2)))) == ["too_many_epochs"]


def test_a_surer_model_that_still_makes_fewer_mistakes_is_not_overfitting() -> None:
    surer = [
        (0.9, 0.5, 0.2),
        (0.4, 0.4, 0.15),
        (0.2, 0.45, 0.12),
        (0.1, 0.5, 0.1),
        (0.05, 0.55, 0.08),
    ]
    assert not found_in(curves(surer))


def test_a_loss_that_soars_is_not_excused_by_an_error_that_fell_by_chance() -> None:
    def soaring(last: float) -> Epochs:
        losses = (0.5, 0.4, 0.45, 0.5, last)
        return [(1 / (n + 1), loss, 0.1 - 0.001 * n) for n, loss in enumerate(losses)]

    assert not found_in(curves(soaring(0.5)))
    assert codes(found_in(curves(soaring(0.6)))) == ["too_many_epochs"]


def test_a_run_that_came_back_from_a_high_peak_is_healthy() -> None:
    peak = [
        (1.0, 0.9, 0.4),
        (0.9, 30.0, 0.6),
        (0.4, 0.5, 0.1),
        (0.2, 0.3, 0.06),
        (0.15, 0.29, 0.06),
    ]
    assert not found_in(curves(peak))


def test_a_curve_that_still_falls_needs_more_epochs() -> None:
    falling = [(1.2, 1.0, 0.5), (0.9, 0.7, 0.3), (0.7, 0.5, 0.2)]
    (finding,) = found_in(curves(falling))
    assert (finding.code, finding.epochs) == ("too_few_epochs", 6)


def test_a_stage_that_waited_for_more_in_vain_needs_no_more_epochs() -> None:
    losses = [(1.1, 0.9, 0.5), (0.85, 0.7, 0.4), (0.7, 0.5, 0.3)]
    waited = [(0.6, 0.56, 0.32), (0.5, 0.58, 0.33), (0.45, 0.6, 0.33)]
    ended_early = curves(losses + waited).model_copy(update={"kept": {"whole": 3}})
    assert not found_in(ended_early)
    still_better = curves(losses).model_copy(update={"kept": {"whole": 3}})
    assert codes(found_in(still_better)) == ["too_few_epochs"]


@pytest.mark.parametrize("valid", [(0.1, 0, 0), (0, 0), (0, 0, 0, 0, 0.1), (0, 0, 0, 0, 0)])
@pytest.mark.parametrize("train", [0.3, 0.0])
def test_a_loss_of_nothing_at_all_is_looked_at_too(valid: list[float], train: float) -> None:
    epochs = [(train / number, loss, 0.0) for number, loss in enumerate(valid, 1)]
    # A model that was perfect and is not any more was trained for too long.
    rose = train > 0 and valid[-1] > valid[0]
    assert codes(found_in(curves(epochs))) == ["too_many_epochs"] * rose


def test_the_rate_that_an_lr_find_suggests_is_the_way_out() -> None:
    (high,) = found_in(curves(TOO_HIGH, lr=0.5, found=2e-3))
    assert "0.002" in high.way_out
    (low,) = found_in(curves(TOO_LOW, lr=1e-5, found=2e-3))
    assert "0.002" in low.way_out
    (unknown,) = found_in(curves(TOO_LOW, lr=1e-5, found=None))
    assert "0.0001" in unknown.way_out


@pytest.mark.parametrize(
    ("wrong", "images", "small"),
    [
        (0, 24, True),
        (2, 24, True),
        (6, 60, True),
        (3, 141, False),
        (0, 60, False),
        (70, 141, False),
    ],
)
def test_a_valid_split_that_is_too_small_to_tell_is_said(
    wrong: int, images: int, small: bool
) -> None:
    findings = diagnose(curves(HEALTHY), classes=3, error=wilson(wrong, images))
    assert [finding.code for finding in findings] == ["valid_split_too_small"] * small
    assert all(f"of {images} valid images" in finding.evidence for finding in findings)


def test_no_curve_is_no_finding() -> None:
    assert diagnose(Curves(epochs=(), steps=()), classes=2, error=wilson(0, 5)) == ()
