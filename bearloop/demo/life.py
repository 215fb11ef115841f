"""The life of the digits: import, train, review, train again, compare, promote, ask."""

from dataclasses import dataclass

from bearloop.cli.doubts import comparison_rows
from bearloop.cli.output import percent, print_table, said
from bearloop.client import Client
from bearloop.client.endpoints import classify
from bearloop.client.views import ComparisonView, VersionView
from bearloop.demo.clock import Clock
from bearloop.demo.digits import NAMES, Digits, write_digits
from bearloop.demo.recipe import DIGITS_RECIPE
from bearloop.demo.reviewer import Reviewed, work_queue
from bearloop.demo.steps import Live, bring_in, promote, wait_for_run
from bearloop.local import Plan

DATASET = ENDPOINT = "digits"


@dataclass(frozen=True)
class Told:
    """What the table at the end shows."""

    digits: Digits
    reviewed: Reviewed
    before: int
    """Number of the run on the imported labels."""
    after: int
    """Number of the run on the cleaned labels."""
    compared: ComparisonView
    answer: str
    live: Live


def tell(client: Client, *, plan: Plan, clock: Clock, stay: bool) -> None:
    """Tell the whole life, and print the table; with its addresses if the platform will `stay`."""
    with clock.step("write the digits, 5 % of train and valid with a wrong label"):
        digits = write_digits(plan.folder / "digits")
    with clock.step("import and freeze"):
        _, version = bring_in(client, DATASET, digits.folder)
    with clock.step("train"):
        before = _train(client, version)
    with clock.step("review (an automatic reviewer that knows the truth)"):
        review = client.reviews.open(before)
        reviewed = _review(client, review.number, digits)
    with clock.step("train again on the cleaned labels"):
        closed = client.reviews.close(review.number, retrain=True)
        assert closed.retraining_run is not None, "closing was asked to retrain"
        after = wait_for_run(client, closed.retraining_run)
        compared = client.runs.compare(before, after)
    with clock.step("promote"):
        live = promote(client, ENDPOINT, after)
    with clock.step("ask the endpoint"):
        answer = _ask(live, digits)
    told = Told(digits, reviewed, before, after, compared, answer, live)
    _print(told, plan=plan if stay else None, clock=clock)


def _train(client: Client, version: VersionView) -> int:
    recipe = DIGITS_RECIPE.model_dump(mode="json")
    (run,) = client.runs.start(DATASET, version.number, recipe=recipe)
    return wait_for_run(client, run.number)


def _review(client: Client, review: int, digits: Digits) -> Reviewed:
    with said.status("review") as status:

        def show(done: Reviewed) -> None:
            status.update(f"{done.screens} screens, {done.relabelled} labels corrected")

        return work_queue(client, review, digits, show=show)


def _ask(live: Live, digits: Digits) -> str:
    picture = next((digits.folder / "test" / NAMES[7]).iterdir())
    answer = classify(live.url, picture.read_bytes(), token=live.token)
    return f"a {NAMES[7]} is classified as {answer['class']} ({percent(answer['confidence'])})"


def _print(told: Told, *, plan: Plan | None, clock: Clock) -> None:
    under = told.compared.cleaned_labels
    seen = told.reviewed
    planted = len(told.digits.planted)
    rows = [
        ["images", str(len(told.digits.truth))],
        ["planted wrong labels", str(planted)],
        [f"of them on the first {seen.screens} screens", f"{seen.found} of {planted}"],
        ["images looked at", f"{seen.shown} of {len(told.digits.truth)}"],
        *map(list, comparison_rows(told.compared)),
        ["the endpoint", told.answer],
        *([name, f"{seconds:.1f} s"] for name, seconds in clock.seconds.items()),
        ["in all", f"{sum(clock.seconds.values()):.1f} s"],
    ]
    if plan:
        rows += [
            ["API docs", f"{plan.api_url}/docs"],
            ["MLflow", plan.tracking_url],
            ["endpoint", told.live.url],
        ]
    print_table("the life of the digits", rows, columns=["", ""])
    said.print(told.compared.verdict.words, markup=False, soft_wrap=True)
    said.print(f"intervals are 95 %, on {under.images} test images", markup=False)
