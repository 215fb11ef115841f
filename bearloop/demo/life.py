"""The life of the digits: import, train, review, train again, compare, promote, ask."""

from dataclasses import dataclass
from pathlib import Path

from bearloop.cli.images import upload_folder
from bearloop.cli.output import interval, job_bar, percent, print_table, said
from bearloop.client import Client
from bearloop.client.endpoints import classify
from bearloop.client.views import ComparisonView, VersionView
from bearloop.demo.clock import Clock
from bearloop.demo.digits import NAMES, Digits, write_digits
from bearloop.demo.recipe import DIGITS_RECIPE
from bearloop.demo.reviewer import Reviewed, work_queue
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
    endpoint_url: str


def tell(client: Client, *, plan: Plan, clock: Clock) -> None:
    """Tell the whole life, and print the table."""
    with clock.step("write the digits, 5 % of train and valid with a wrong label"):
        digits = write_digits(plan.folder / "digits")
    with clock.step("import and freeze"):
        version = _bring_in(client, digits.folder)
    with clock.step("train"):
        before = _train(client, version)
    with clock.step("review (an automatic reviewer that knows the truth)"):
        review = client.reviews.open(before)
        reviewed = _review(client, review.number, digits)
    with clock.step("train again on the cleaned labels"):
        closed = client.reviews.close(review.number, retrain=True)
        after = _wait(client, closed.retraining_run)
        compared = client.runs.compare(before, after)
    with clock.step("promote"):
        url, token = _promote(client, after)
    with clock.step("ask the endpoint"):
        answer = _ask(url, token, digits)
    told = Told(digits, reviewed, before, after, compared, answer, url)
    _print(told, plan=plan, clock=clock)


def _bring_in(client: Client, folder: Path) -> VersionView:
    client.datasets.create(DATASET)
    source = upload_folder(client, DATASET, folder)
    started = client.datasets.start_import(DATASET, source)
    with job_bar("import") as show:
        client.datasets.wait_for_import(DATASET, started.number, show=show)
    return client.datasets.freeze(DATASET)


def _train(client: Client, version: VersionView) -> int:
    recipe = DIGITS_RECIPE.model_dump(mode="json")
    (run,) = client.runs.start(DATASET, version.number, recipe=recipe)
    return _wait(client, run.number)


def _wait(client: Client, run: int | None) -> int:
    assert run is not None, "closing was asked to retrain"
    with job_bar(f"run {run}") as show:
        client.runs.wait(run, show=show)
    return run


def _review(client: Client, review: int, digits: Digits) -> Reviewed:
    with said.status("review") as status:

        def show(done: Reviewed) -> None:
            status.update(f"{done.screens} screens, {done.relabelled} labels corrected")

        return work_queue(client, review, digits, show=show)


def _promote(client: Client, run: int) -> tuple[str, str]:
    client.endpoints.create(ENDPOINT)
    token = client.endpoints.create_token(ENDPOINT, "demo")
    started = client.endpoints.promote(ENDPOINT, run)
    with said.status("gates, roll-out"):
        client.endpoints.wait_for_promotion(ENDPOINT, started.number)
    url = client.endpoints.get(ENDPOINT).url
    assert url is not None, "a live promotion has an address"
    return url, token


def _ask(url: str, token: str, digits: Digits) -> str:
    picture = next((digits.folder / "test" / NAMES[7]).iterdir())
    answer = classify(url, picture.read_bytes(), token=token)
    return f"a {NAMES[7]} is classified as {answer['class']} ({percent(answer['confidence'])})"


def _print(told: Told, *, plan: Plan, clock: Clock) -> None:
    under = told.compared.cleaned_labels
    seen = told.reviewed
    planted = len(told.digits.planted)
    rows = [
        ["images", str(len(told.digits.truth))],
        ["planted wrong labels", str(planted)],
        [f"of them on the first {seen.screens} screens", f"{seen.found} of {planted}"],
        ["images looked at", f"{seen.shown} of {len(told.digits.truth)}"],
        ["error on test before", f"{percent(under.error_a.value)} ({interval(under.error_a)})"],
        ["error on test after", f"{percent(under.error_b.value)} ({interval(under.error_b)})"],
        ["fixed, broken by cleaning", f"{under.fixed}, {under.broken} (p = {under.p:.2g})"],
        ["the endpoint", told.answer],
        *([name, f"{seconds:.1f} s"] for name, seconds in clock.seconds.items()),
        ["in all", f"{sum(clock.seconds.values()):.1f} s"],
        ["API docs", f"{plan.api_url}/docs"],
        ["MLflow", plan.tracking_url],
        ["endpoint", told.endpoint_url],
    ]
    print_table("the life of the digits", rows, columns=["", ""])
    verdict = "cleaning helped" if under.error_b.value < under.error_a.value else "no gain here"
    said.print(f"{verdict}; intervals are 95 %, on {under.images} test images", markup=False)
