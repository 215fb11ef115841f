"""`lr-finder`: the picture of a run's search of a rate, and what the search suggests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bearloop.cli.login import connect
from bearloop.cli.output import Json, hint, print_json, print_table, said
from bearloop.client.views import LrFindView


def add_to(app: typer.Typer) -> None:
    """Add the command of this page."""
    app.command("lr-finder")(lr_finder)


def lr_finder(
    number: Annotated[int, typer.Argument(help="The run's number.")],
    *,
    to: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("lr-finder.png"),
    stage: Annotated[
        str | None, typer.Option(help="The fit stage it stands before; absent: the first's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw a run's search of a rate as PNG, and say what it suggests; while the run goes on too."""
    runs = connect().runs
    drawn = runs.lr_finder_picture(number, stage=stage)
    find = next(find for find in runs.lr_finds(number) if stage in (None, find.stage))
    to.write_bytes(drawn)
    if as_json:
        print_json({"file": str(to), "bytes": len(drawn), **find.model_dump(mode="json")})
        return
    print_lr_finds([find])
    said.print(f"written: {to}", markup=False, soft_wrap=True)
    hint(f"bearloop runs {number} --wait, or bearloop report {number}")


def print_lr_finds(finds: Sequence[LrFindView]) -> None:
    """Print the rates that each search suggests, or why it suggests none."""
    for find in finds:
        rows = [
            [name, f"{rate:.2g}", "taken for auto" if rate == find.lr else ""]
            for name, rate in find.suggestions.items()
        ]
        title = f"lr-find before {find.stage}"
        if rows:
            print_table(title, rows, columns=["suggestion", "rate", ""])
        else:
            said.print(f"{title}: no rate, {find.reason}", markup=False, soft_wrap=True)
