"""`contact-sheet`, and how the command line says what changes in training pictures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bearloop.cli.login import connect
from bearloop.cli.output import Json, hint, print_json, said
from bearloop.contract.recipes import PRESETS, Augment


def add_to(app: typer.Typer) -> None:
    """Add the command of this page."""
    app.command("contact-sheet")(contact_sheet)


def contact_sheet(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    *,
    to: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("contact-sheet.png"),
    recipe: Annotated[
        str | None, typer.Option(help="What it trains on, as it changes them; absent: as stored.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(help="What this run trains on, as it changes them.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Most pictures.")] = 24,
    class_name: Annotated[str | None, typer.Option("--class", help="Of this one only.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, valid or test; absent: what is trained on.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Another one: other pictures and changes; absent: the run's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw pictures of a dataset as one PNG: as stored, or what a recipe or a run trains on."""
    asked = {"n": n, "class": class_name, "split": split, "seed": seed}
    data = connect().datasets.contact_sheet(dataset, recipe=recipe, run=run, **asked)
    to.write_bytes(data)
    if as_json:
        print_json({"file": str(to), "bytes": len(data)})
        return
    said.print(f"written: {to}", markup=False, soft_wrap=True)
    shown = recipe is not None or run is not None
    hint(f"bearloop train {dataset}" if shown else f"bearloop freeze {dataset}")


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
