"""Fields that are right one by one and do not go together: a record tells all of them at once."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

CLASH: Final = "clash"
"""The type of its errors; their context has `detail` and `way_out`."""


class Clash(NamedTuple):
    """A field that the others of its record do not allow."""

    field: str
    detail: str
    way_out: str


def refuse(record: BaseModel, clashes: Iterable[Clash]) -> None:
    """Raise a ValidationError with an entry for each, at its field; for a validator to call."""
    errors = [
        InitErrorDetails(
            type=PydanticCustomError(
                CLASH, "{detail}: {way_out}", {"detail": clash.detail, "way_out": clash.way_out}
            ),
            loc=(clash.field,),
            input=getattr(record, clash.field),
        )
        for clash in clashes
    ]
    if errors:
        raise ValidationError.from_exception_data(type(record).__name__, errors)
