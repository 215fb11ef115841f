"""`review`: open a queue, see how far it is, close it."""

from typing import Annotated

import typer

from bearloop.cli.login import connect, find_login
from bearloop.cli.output import Json, hint, print_json, print_table, said

Number = Annotated[int, typer.Argument(help="The review's number.")]

review = typer.Typer(help="A queue over one report, decided by people.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.add_typer(review, name="review")


@review.command("open")
def open_review(
    run: Annotated[int, typer.Argument(help="The run whose report is reviewed.")],
    *,
    order: Annotated[str, typer.Option(help="label_issue or loss.")] = "label_issue",
    limit: Annotated[int, typer.Option(help="Most images in the queue.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Make a review and name the page where it is decided."""
    made = connect().reviews.open(run, order=order, limit=limit)
    if as_json:
        print_json(made)
        return
    login = find_login()
    said.print(f"review {made.number}: {made.images} images in the queue", markup=False)
    said.print(f"page: {login.url}/review/{login.project}/{made.number}", markup=False)
    hint(f"decide on the page, then `bearloop review close {made.number} --retrain`")


@review.command("list")
def list_reviews(as_json: Json = False) -> None:
    """List the project's reviews."""
    found = list(connect().reviews.list())
    if as_json:
        print_json(found)
        return
    rows = [[row.number, row.run, row.state, row.decided, row.images] for row in found]
    print_table("reviews", rows, columns=["review", "run", "state", "decided", "images"])
    hint("bearloop review show REVIEW")


@review.command("show")
def show_review(number: Number, as_json: Json = False) -> None:
    """Show how far a review is, and whether it may stop."""
    progress = connect().reviews.progress(number)
    if as_json:
        print_json(progress)
        return
    verbs = ", ".join(f"{verb} {count}" for verb, count in progress["verbs"].items())
    said.print(f"{progress['decided']} of {progress['images']} decided ({verbs})", markup=False)
    said.print(progress["advice"]["says"], markup=False)
    hint(f"bearloop review close {number} --retrain")


@review.command("close")
def close_review(
    number: Number,
    retrain: Annotated[bool, typer.Option(help="Train again on the cleaned version.")] = False,
    as_json: Json = False,
) -> None:
    """Close a review: its decisions become label events and a cleaned version."""
    closed = connect().reviews.close(number, retrain=retrain)
    if as_json:
        print_json(closed)
        return
    verbs = ", ".join(f"{verb} {count}" for verb, count in closed.written.items())
    said.print(f"version {closed.version} made ({verbs})", markup=False)
    if closed.conflicts:
        said.print(f"{len(closed.conflicts)} labels changed since and stay", markup=False)
    run = closed.retraining_run
    dataset = closed.review.dataset
    hint(f"bearloop runs {run} --wait" if run else f"bearloop train {dataset}")
