"""How sure a run's figures are: the spread of its seeds, and a valid split that is too small."""

from collections.abc import Sequence
from typing import Annotated

import typer

from bearloop.cli.login import connect
from bearloop.cli.output import Json, hint, interval, percent, print_json, print_table, said
from bearloop.client import Client
from bearloop.client.views import ComparisonView, RunView


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.command()(compare)


def compare(
    a: Annotated[int, typer.Argument(help="Number of the earlier run.")],
    b: Annotated[int, typer.Argument(help="Number of the later run.")],
    *,
    as_json: Json = False,
) -> None:
    """Compare two runs on the same images, and say whether they differ by more than chance."""
    compared = connect().runs.compare(a, b)
    if as_json:
        print_json(compared)
        return
    rows = [[name, value] for name, value in comparison_rows(compared)]
    print_table(f"run {a} and run {b}", rows, columns=["", ""])
    said.print(compared.verdict.words, markup=False, soft_wrap=True)
    hint(f"bearloop report {b}")


def comparison_rows(compared: ComparisonView) -> list[tuple[str, str]]:
    """Say how two runs compare under the cleaned labels."""
    under, split = compared.cleaned_labels, compared.split
    return [
        (f"error on {split} before", f"{percent(under.error_a.value)} ({interval(under.error_a)})"),
        (f"error on {split} after", f"{percent(under.error_b.value)} ({interval(under.error_b)})"),
        ("fixed, broken", f"{under.fixed}, {under.broken} (p = {under.p:.2g})"),
    ]


def print_spread(client: Client, number: int) -> None:
    """Print how far the run's seeds lie apart, where there are several."""
    found = client.runs.spread(number)
    if found.spread is None:
        return
    rows = [
        [one.run, one.seed, percent(one.error.value), interval(one.error)] for one in found.seeds
    ]
    title = f"spread of the error over seeds, {found.split} images"
    print_table(title, rows, columns=["run", "seed", "error", "95 % interval"])
    said.print(found.words, markup=False, soft_wrap=True)


def say_unmeasured(number: int, twin: int | None) -> None:
    """Say why a run on all images has no figures, and which run has them."""
    where = (
        f"its twin, run {twin}, tells how good it is: bearloop report {twin}"
        if twin is not None
        else "train its twin to know how good it is: the same command with --train-on train"
    )
    said.print(
        f"run {number} was trained on all images, so none is held out and no error is measured; "
        f"{where}",
        markup=False,
        soft_wrap=True,
    )


def print_doubts(client: Client, ended: Sequence[RunView]) -> None:
    """Print the spread of several seeds, and whether the valid split is too small to tell."""
    first = ended[0].number
    if len(ended) > 1:
        print_spread(client, first)
    small = client.runs.report(first).too_small
    if small is not None:
        said.print(
            f"{small.evidence}; {small.way_out}", style="yellow", markup=False, soft_wrap=True
        )
