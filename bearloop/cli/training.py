"""`train`, `runs` and `report`: from a version to a model, and what it says."""

from typing import Annotated

import typer

from bearloop.cli.costs import print_cost
from bearloop.cli.doubts import print_doubts, print_spread, say_unmeasured
from bearloop.cli.fields import fields_of
from bearloop.cli.login import connect
from bearloop.cli.lr_finder import print_lr_finds
from bearloop.cli.output import (
    Json,
    hint,
    interval,
    job_bar,
    percent,
    print_json,
    print_table,
    said,
    shown,
)
from bearloop.cli.pictures import augment_of
from bearloop.client import Client, JobFailedError
from bearloop.client.views import DiagnosisView, FiguresView, ReportView, RunView


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.command()(train)
    app.command()(runs)
    app.command()(report)


def train(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    *,
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    recipe: Annotated[str, typer.Option(help="GET /recipes lists them.")] = "fine-tune",
    model: Annotated[str | None, typer.Option(help="A torchvision classifier.")] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, none, file: or s3:")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the recipe's last fit stage.")] = None,
    size: Annotated[int | None, typer.Option(help="Of the model's input, in pixels.")] = None,
    lr: Annotated[
        str | None, typer.Option(help="The first stage's rate; auto: an lr-find finds it.")
    ] = None,
    train_on: Annotated[str | None, typer.Option(help="all: valid and test images too.")] = None,
    oversample: Annotated[bool | None, typer.Option(help="Draw rare classes as often.")] = None,
    class_weights: Annotated[str | None, typer.Option(help="balanced: rare ones more.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Of every fit stage.")] = None,
    mixup: Annotated[float | None, typer.Option(help="Alpha of blending; 0: none.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures of a batch.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches that make a step.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="side-on, top-down, none, or flip=false,max_rotate=20.")
    ] = None,
    resize: Annotated[str | None, typer.Option(help="crop, pad or squish.")] = None,
    tta_views: Annotated[int | None, typer.Option(help="Augmented views; 0: none.")] = None,
    tta_plain_weight: Annotated[float | None, typer.Option(help="Of the plain picture.")] = None,
    more: Annotated[
        list[str] | None, typer.Option("--set", help="Any field of POST /runs: dropout=.3")
    ] = None,
    seed: Annotated[int, typer.Option()] = 42,
    seeds: Annotated[int, typer.Option(help="Runs of so many seeds, for the spread.")] = 1,
    device: Annotated[str | None, typer.Option(help="cuda, cpu or auto.")] = None,
    gpus: Annotated[int | None, typer.Option(help="Of each node.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Pods that train together.")] = None,
    wait: Annotated[bool, typer.Option(help="Until the run has ended.")] = True,
    as_json: Json = False,
) -> None:
    """Train a model on a frozen version."""
    client = connect()
    changes: dict[str, object] = {
        "model": model,
        "weights": weights,
        "epochs": epochs,
        "size": size,
        "lr": None if lr is None else _rate(lr),
        "train_on": train_on,
        "oversample": oversample,
        "class_weights": class_weights,
        "label_smoothing": label_smoothing,
        "mixup": mixup,
        "precision": precision,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "augment": None if augment is None else augment_of(augment),
        "resize": resize,
        "tta_views": tta_views,
        "tta_plain_weight": tta_plain_weight,
        "device": device,
        "gpus": gpus,
        "nodes": nodes,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    given |= fields_of(more or ())
    started = client.runs.start(dataset, version, recipe=recipe, seed=seed, seeds=seeds, **given)
    ended, failed = _all_ended(client, started) if wait else (started, [])
    if ended and as_json:
        print_json(ended)
    elif ended:
        _tell(client, ended, waited=wait)
    _refuse(failed)


def runs(
    number: Annotated[int | None, typer.Argument(help="One run; absent: all.")] = None,
    *,
    wait: Annotated[bool, typer.Option(help="Until it has ended.")] = False,
    cancel: Annotated[bool, typer.Option(help="Ask it to end.")] = False,
    logs: Annotated[bool, typer.Option(help="Print what it printed.")] = False,
    spec: Annotated[
        bool, typer.Option(help="Print what it was told, as JSON, to run it again elsewhere.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List runs, or show, await or cancel one."""
    client = connect()
    if number is None:
        _print_runs(list(client.runs.list()), as_json=as_json)
        return
    if logs:
        _print_log(client.runs.logs(number), number, as_json=as_json)
        return
    if spec:
        print_json(client.runs.spec(number))
        hint(client.runs.files(number).rerun)
        return
    run = client.runs.cancel(number) if cancel else client.runs.get(number)
    run = _ended(client, run) if wait else run
    if as_json:
        print_json(run)
        return
    said.print(f"run {number}: {run.why}", markup=False)
    print_cost(run)
    hint(f"bearloop report {number}" if run.state == "done" else f"bearloop runs {number} --wait")


def report(
    number: Annotated[int, typer.Argument(help="The run's number.")], as_json: Json = False
) -> None:
    """Show a run's figures, what went wrong, most confused classes and top losses."""
    client = connect()
    figures, diagnosis = client.runs.report(number), client.runs.diagnosis(number)
    finds = client.runs.lr_finds(number)
    if as_json:
        found = diagnosis.model_dump(mode="json", include={"findings"})
        searched = [find.model_dump(mode="json") for find in finds]
        print_json({**figures.model_dump(mode="json"), **found, "lr_finds": searched})
        return
    if figures.train_on == "all":
        say_unmeasured(number, figures.twin)
    else:
        _print_figures(figures)
        print_spread(client, number)
        _print_findings(diagnosis)
        _print_confused(client, number)
    print_lr_finds(finds)
    first = zip(range(10), client.runs.images(number), strict=False)
    losses = [
        [i["sha256"][:12], i["split"], i["label"] or "conflict", i["predicted"], _loss(i["loss"])]
        for _, i in first
    ]
    print_table("top losses", losses, columns=["image", "split", "label", "predicted", "loss"])
    hint(f"bearloop review open {number}")


def _print_confused(client: Client, number: int) -> None:
    pairs = client.runs.most_confused(number)[:10]
    rows = [[pair.label, pair.predicted, pair.count, interval(pair.share)] for pair in pairs]
    columns = ["label", "predicted", "times", "share of the label, 95 %"]
    print_table("most confused", rows, columns=columns)


def _tell(client: Client, runs: list[RunView], *, waited: bool) -> None:
    """Say how each run stands, and of ended ones what came of them."""
    for run in runs:
        said.print(f"run {run.number}, seed {run.seed}: {run.why}", markup=False)
    first = runs[0].number
    if not waited:
        hint(f"bearloop runs {first} --wait")
        return
    if runs[0].train_on == "all":
        for run in runs:
            say_unmeasured(run.number, run.twin)
    else:
        _print_errors(runs)
        print_doubts(client, runs)
    hint(f"bearloop report {first}, or bearloop review open {first}")


def _all_ended(client: Client, started: list[RunView]) -> tuple[list[RunView], list[str]]:
    """Wait for all runs; return those that are done, and why the others are not."""
    done, failed = [], []
    for run in started:
        try:
            done.append(_ended(client, run))
        except JobFailedError as error:
            failed.append(str(error))
    return done, failed


def _refuse(failed: list[str]) -> None:
    """End the command with what became of the runs that are not done, where there are any."""
    if failed:
        raise JobFailedError("; ".join(failed))


def _ended(client: Client, run: RunView) -> RunView:
    with job_bar(f"run {run.number}") as show:
        return client.runs.wait(run.number, show=show)


def _print_runs(found: list[RunView], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [[run.number, run.recipe, run.seed, run.state, run.device] for run in found]
    print_table("runs", rows, columns=["run", "recipe", "seed", "state", "device"])
    hint("bearloop runs RUN, or bearloop report RUN")


def _print_log(text: str, number: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"run": number, "text": text})
        return
    shown.print(text, markup=False, soft_wrap=True)
    hint(f"bearloop runs {number}")


def _print_errors(runs: list[RunView]) -> None:
    """Print each run's error by split."""
    found = [(run, split, m) for run in runs for split, m in (run.metrics or {}).items()]
    rows = [
        [run.number, run.seed, split, m.images, percent(m.error.value), interval(m.error)]
        for run, split, m in found
    ]
    columns = ["run", "seed", "split", "images", "error", "95 % interval"]
    print_table("error", rows, columns=columns)


def _print_figures(figures: ReportView) -> None:
    rows = [
        [split, f.images, percent(f.error.value), interval(f.error), _tta(f)]
        for split, f in figures.splits.items()
    ]
    title = f"run {figures.run} on {figures.dataset} version {figures.version}"
    columns = ["split", "images", "error", "95 % interval", "with TTA"]
    print_table(title, rows, columns=columns)


def _tta(figures: FiguresView) -> str:
    """Name the error with test-time augmentation and its interval; blank where there is none."""
    error = figures.tta_error
    return "" if error is None else f"{percent(error.value)} ({interval(error)})"


def _print_findings(diagnosis: DiagnosisView) -> None:
    for finding in diagnosis.findings:
        said.print(
            f"{finding.code}: {finding.evidence}", style="yellow", markup=False, soft_wrap=True
        )
        said.print(f"  {finding.way_out}", markup=False, soft_wrap=True)


def _rate(text: str) -> float | str:
    """Read `auto` or a number."""
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"--lr {text}: give a number like 2e-3, or auto") from error


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
