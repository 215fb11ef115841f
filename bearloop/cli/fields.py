"""How the command line gives fields that have no option of their own."""

import json
from collections.abc import Sequence

import typer


def fields_of(given: Sequence[str]) -> dict[str, object]:
    """Read `name=value` pairs; `early_stopping.patience=3` is a field of an object.

    A value is JSON where it reads as such, `.3` too, and a text where it does not.
    """
    fields: dict[str, object] = {}
    for pair in given:
        path, sign, value = pair.partition("=")
        *outer, name = path.strip().split(".")
        if not sign or not all((*outer, name)):
            raise typer.BadParameter(f"--set {pair}: write name=value, e.g. weight_decay=0.05")
        inside = fields
        for part in outer:
            found = inside.setdefault(part, {})
            if not isinstance(found, dict):
                raise typer.BadParameter(f"--set {pair}: {part} has a value of its own already")
            inside = found
        inside[name] = _value(value.strip())
    return fields


def _value(text: str) -> object:
    try:
        return json.loads("0" + text if text.startswith(".") else text)
    except ValueError:
        return text
