"""What `train --augment` reads."""

import pytest
import typer

from bearloop.cli.pictures import augment_of
from bearloop.contract.recipes import TOP_DOWN, Augment


def test_a_preset_fields_or_both() -> None:
    assert augment_of("top-down") == "top-down"
    assert augment_of("flip=false,max_rotate=20") == {"flip": False, "max_rotate": 20}
    both = augment_of("top-down,max_warp=0.1,padding=border")
    expected = TOP_DOWN.model_copy(update={"max_warp": 0.1, "padding": "border"})
    assert Augment.model_validate(both) == expected


@pytest.mark.parametrize("wrong", ["sideways", "turn=3", "top-down,upside-down", "", "flip"])
def test_anything_else_is_answered_with_what_there_is(wrong: str) -> None:
    with pytest.raises(typer.BadParameter, match="side-on, top-down, none, or fields as"):
        augment_of(wrong)
