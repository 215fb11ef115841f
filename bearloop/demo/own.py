"""The life of the user's own photographs, until a person must look."""

import webbrowser
from pathlib import Path

from bearloop.cli.images import upload_folder
from bearloop.cli.output import hint, interval, job_bar, percent, print_table, said
from bearloop.client import Client
from bearloop.demo.clock import Clock
from bearloop.local import Plan

DATASET = "photographs"


def tell(
    client: Client, data: Path, *, training: dict[str, str | None], plan: Plan, clock: Clock
) -> None:
    """Import, train, open a review, and open its page: from there on it takes a person."""
    with clock.step("import and freeze"):
        client.datasets.create(DATASET)
        source = upload_folder(client, DATASET, data)
        started = client.datasets.start_import(DATASET, source)
        with job_bar("import") as show:
            ended = client.datasets.wait_for_import(DATASET, started.number, show=show)
        said.print(
            f"{ended.stored} images, {ended.conflicts} with two labels, {ended.refused} refused",
            markup=False,
        )
        version = client.datasets.freeze(DATASET)
    with clock.step("train"):
        asked = {name: value for name, value in training.items() if value is not None}
        (run,) = client.runs.start(DATASET, version.number, recipe="fine-tune", **asked)
        with job_bar(f"run {run.number}") as show_run:
            client.runs.wait(run.number, show=show_run)
    figures = client.runs.report(run.number)
    rows = [[s, percent(f.error.value), interval(f.error)] for s, f in figures.splits.items()]
    print_table("error", rows, columns=["split", "error", "95 % interval"])
    review = client.reviews.open(run.number)
    page = f"{plan.api_url}/review/{client.project}/{review.number}"
    said.print(f"now a person must look: {page}", markup=False)
    said.print(f"sign in with the token in {plan.login_file}", markup=False)
    webbrowser.open(page)
    hint(f"bearloop review close {review.number} --retrain, in another terminal")
