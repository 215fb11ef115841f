"""How training pictures are changed, as the command line says it."""

import json

import typer

from bearloop.contract.recipes import PRESETS, Augment


def augment_of(text: str) -> str | dict[str, object]:
    """Read a preset's name, fields as `flip=false,max_rotate=20`, or a preset and then fields."""
    first, *rest = text.split(",")
    if first in PRESETS and not rest:
        return first
    before = dict(PRESETS[first]) if first in PRESETS else {}
    return {
        **before,
        **dict(_field(part) for part in (rest if first in PRESETS else [first, *rest])),
    }


def _field(part: str) -> tuple[str, object]:
    name, sign, value = part.partition("=")
    if not sign or name not in Augment.model_fields:
        raise typer.BadParameter(
            f"--augment {part}: give {', '.join(PRESETS)}, or fields as max_rotate=20; they are "
            f"{', '.join(Augment.model_fields)}"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
