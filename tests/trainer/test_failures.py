"""Each of the lesson's failures is caused by really training, and named from what came of it."""

from pathlib import Path

import pytest

from bearloop.diagnosis import diagnose
from bearloop.intervals import wilson
from tests.trainer.failures import FAILURES, KINDS, VALID, cause


@pytest.mark.long
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_was_caused_is_named(name: str, tmp_path: Path) -> None:
    curves = cause(name, tmp_path)
    wrong = round(curves.epochs[-1].error_rate * VALID)
    found = diagnose(curves, classes=KINDS.get(name, 10), error=wilson(wrong, VALID))
    assert [finding.code for finding in found] == ([] if name == "healthy" else [name])
