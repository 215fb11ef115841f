"""What `train --set` reads."""

import pytest
import typer

from bearloop.cli.fields import fields_of


def test_values_are_json_where_they_read_as_such() -> None:
    given = ("dropout=.3", "weight_decay=1e-2", "oversample=true", "precision=fp32", "gpus = 2")
    assert fields_of(given) == {
        "dropout": 0.3,
        "weight_decay": 0.01,
        "oversample": True,
        "precision": "fp32",
        "gpus": 2,
    }


def test_dots_lead_into_objects() -> None:
    given = ("early_stopping.patience=3", "early_stopping.metric=error_rate")
    assert fields_of(given) == {"early_stopping": {"patience": 3, "metric": "error_rate"}}


def test_null_is_given_and_not_absent() -> None:
    assert fields_of(["early_stopping=null"]) == {"early_stopping": None}


@pytest.mark.parametrize("given", [["dropout"], ["=3"], ["a.=3"], ["a=3", "a.b=4"]])
def test_what_is_no_pair_is_refused(given: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="--set"):
        fields_of(given)
