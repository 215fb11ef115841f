"""The life of the user's own photographs: as the digits' life, but a person does the review."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bearloop.cli.doubts import comparison_rows
from bearloop.cli.output import interval, percent, print_table, said
from bearloop.client import ApiProblem, Client, UnreachableError
from bearloop.client.endpoints import classify
from bearloop.client.views import ComparisonView, ImportView, ReviewView
from bearloop.client.waiting import wait_until_ended
from bearloop.demo.clock import Clock
from bearloop.demo.steps import Live, bring_in, promote, wait_for_run
from bearloop.local import Plan

NAME = "photographs"
"""Of dataset and endpoint; a number follows where a demo before this one left its own."""


@dataclass(frozen=True)
class Here:
    """The machine that the demo runs on."""

    plan: Plan
    revive: Callable[[], None]
    """Start again what died: waiting for a person may take days."""
    open_page: Callable[[str], object]
    """Show a page to the person, where that can be done."""


@dataclass(frozen=True)
class Told:
    """What the table at the end shows."""

    imported: ImportView
    closed: ReviewView
    relabelled: int
    removed: int
    compared: ComparisonView | None
    """None when the review changed nothing, so that nothing was trained again."""
    answer: str
    live: Live


def tell(
    client: Client, data: Path, *, training: Mapping[str, object], here: Here, clock: Clock
) -> None:
    """Tell the life up to the review, wait for the person to close it, tell the rest.

    `training` is what the runs change of `fine-tune`.
    """
    name = _free_name(client)
    with clock.step("import and freeze"):
        imported, version = bring_in(client, name, data)
        said.print(
            f"{imported.stored} images, {imported.conflicts} with two labels, "
            f"{imported.refused} refused",
            markup=False,
        )
    with clock.step("train"):
        before = _train(client, name, version.number, training=training)
    _print_errors(client, before)
    with clock.step("review (by you)"):
        closed = _await_person(client, before, here)
    with clock.step("train again on the cleaned labels"):
        cleaned, after = _retrain(client, closed, training)
    with clock.step("promote"):
        live = promote(client, name, after)
    with clock.step("ask the endpoint"):
        answer = _ask(client, name, live)
    diff = client.datasets.diff(name, cleaned, against=version.number)
    told = Told(
        imported=imported,
        closed=closed,
        relabelled=diff["counts"]["relabelled"],
        removed=diff["counts"]["removed"],
        compared=client.runs.compare(before, after) if after != before else None,
        answer=answer,
        live=live,
    )
    _print(told, plan=here.plan, clock=clock)


def _free_name(client: Client) -> str:
    taken = {dataset.name for dataset in client.datasets.list()}
    taken |= {endpoint.name for endpoint in client.endpoints.list()}
    number = 1
    while (name := NAME if number == 1 else f"{NAME}-{number}") in taken:
        number += 1
    return name


def _train(client: Client, name: str, version: int, *, training: Mapping[str, object]) -> int:
    (run,) = client.runs.start(name, version, recipe="fine-tune", **training)
    return wait_for_run(client, run.number)


def _print_errors(client: Client, run: int) -> None:
    figures = client.runs.report(run).splits
    rows = [[split, percent(f.error.value), interval(f.error)] for split, f in figures.items()]
    print_table("error", rows, columns=["split", "error", "95 % interval"])


def _await_person(client: Client, run: int, here: Here) -> ReviewView:
    """Open the page of a new review, and return when somebody has closed that, however late."""
    plan, seen = here.plan, client.reviews.open(run)
    page = f"{plan.api_url}/review/{client.project}/{seen.number}"
    _say(f"now a person must look: {page}")
    _say(f"sign in there with the token in {plan.login_file}")
    _say("when the page says that you may stop, close the review on it: the demo then goes on")
    _say(f"Ctrl-C ends the demo; `bearloop up --folder {plan.folder}` brings all this back")
    here.open_page(page)

    def look() -> ReviewView:
        nonlocal seen
        here.revive()
        # An API that was just started again takes a moment.
        with suppress(UnreachableError):
            seen = client.reviews.get(seen.number)
        return seen

    with said.status("waiting for you") as status:
        return wait_until_ended(
            look, show=lambda r: status.update(f"{r.decided} of {r.images} decided")
        )


def _say(text: str) -> None:
    said.print(text, markup=False, soft_wrap=True)


def _retrain(client: Client, closed: ReviewView, training: Mapping[str, object]) -> tuple[int, int]:
    """Return the cleaned version, and the run on it: the person's, or one that we start."""
    assert closed.cleaned_version is not None, "a closed review has frozen a version"
    if closed.retraining_run is not None:
        return closed.cleaned_version, wait_for_run(client, closed.retraining_run)
    if closed.cleaned_version == closed.version:
        said.print("no label was changed: the model stays as it is", markup=False)
        return closed.version, closed.run
    run = _train(client, closed.dataset, closed.cleaned_version, training=training)
    return closed.cleaned_version, run


def _ask(client: Client, dataset: str, live: Live) -> str:
    image = next(client.datasets.images(dataset, split="valid", removed=False))
    try:
        answer = classify(
            live.url, client.datasets.content(dataset, image["sha256"]), token=live.token
        )
    except ApiProblem as problem:
        return f"refused: {problem}"
    label = image["class_name"] or "two labels"
    return f"{label} is classified as {answer['class']} ({percent(answer['confidence'])})"


def _print(told: Told, *, plan: Plan, clock: Clock) -> None:
    imported, closed = told.imported, told.closed
    rows = [
        ["images", str(imported.stored)],
        ["with two labels", str(imported.conflicts)],
        ["refused", str(imported.refused)],
        ["images looked at", f"{closed.decided} of {closed.images}"],
        ["labels corrected", str(told.relabelled)],
        ["images removed", str(told.removed)],
        *_comparison(told.compared),
        ["the endpoint", told.answer],
        *([name, f"{seconds:.1f} s"] for name, seconds in clock.seconds.items()),
        ["in all", f"{sum(clock.seconds.values()):.1f} s"],
        ["API docs", f"{plan.api_url}/docs"],
        ["MLflow", plan.tracking_url],
        ["endpoint", told.live.url],
    ]
    print_table("the life of your photographs", rows, columns=["", ""])
    if told.compared is not None:
        counted = f"{told.compared.images} {told.compared.split} images"
        _say(told.compared.verdict.words)
        _say(f"intervals are 95 %, on {counted}, under the cleaned labels")


def _comparison(compared: ComparisonView | None) -> list[list[str]]:
    if compared is None:
        return []
    return [list(row) for row in comparison_rows(compared)]
