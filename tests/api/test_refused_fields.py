"""Places of errors are told as fields that were posted, without what pydantic puts between."""

import pytest

from api.refused_fields import place_of
from bearloop.contract.clashes import CLASH

POSTED = {"lr": -1, "stages": [{"kind": "fit", "schedule": {"kind": "flat", "div": 2}}]}


@pytest.mark.parametrize(
    ("kind", "at", "expected"),
    [
        ("greater_than", ("lr", "float"), ("lr",)),
        ("literal_error", ("lr", "literal['auto']"), ("lr",)),
        ("missing", ("stages", 0, "fit", "epochs"), ("stages", 0, "epochs")),
        ("missing", ("name",), ("name",)),
        (
            "extra_forbidden",
            ("stages", 0, "fit", "schedule", "flat", "div"),
            ("stages", 0, "schedule", "div"),
        ),
        (CLASH, ("stages", 0, "fit", "lr_body"), ("stages", 0, "lr_body")),
        ("value_error", ("stages", 0, "fit"), ("stages", 0)),
        ("model_type", (), ()),
    ],
)
def test_kinds_are_no_places(
    kind: str, at: tuple[str | int, ...], expected: tuple[str | int, ...]
) -> None:
    assert place_of({"type": kind, "loc": at}, POSTED) == expected


def test_what_is_no_json_keeps_its_place() -> None:
    assert place_of({"type": "json_invalid", "loc": (12,)}, "{") == (12,)
    assert place_of({"type": "missing", "loc": ("file",)}, None) == ("file",)
