"""`promote`, `rollback`, `classify` and `predict`: from a run to answers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer
from rich.progress import track

from bearloop.cli.answers_csv import write_answers
from bearloop.cli.endpoint_tokens import EndpointCaller, make_token
from bearloop.cli.login import connect
from bearloop.cli.output import Json, hint, percent, print_json, print_table, said
from bearloop.cli.sources import SourceError
from bearloop.client import ApiProblem, Client
from bearloop.client.endpoints import Size

EndpointArgument = Annotated[str, typer.Argument(help="The endpoint's name.")]
TokenOption = Annotated[
    str | None, typer.Option(help="The endpoint's token; default: one is made and kept.")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        help="The address at which this machine reaches the endpoint, e.g. of "
        "`kubectl port-forward`; default: the one inside the cluster."
    ),
]
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(resize)
    app.command()(classify)
    app.command()(predict)


def promote(
    run: Annotated[int, typer.Argument(help="The run to promote.")],
    endpoint: EndpointArgument,
    *,
    public: Annotated[bool, typer.Option(help="Of a new endpoint: ask without a token.")] = False,
    max_error: Annotated[
        float | None, typer.Option(help="Of a new endpoint: a gate on the valid split's error.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a run's model to an endpoint, through its gates; the endpoint is made if needed."""
    client = connect()
    _ensure_endpoint(client, endpoint, public=public, max_error=max_error)
    started = client.endpoints.promote(endpoint, run)
    with said.status(f"promotion {started.number}: checking gates"):
        ended = client.endpoints.wait_for_promotion(endpoint, started.number)
    if as_json:
        print_json(ended)
        return
    rows = [[g.name, "passed" if g.passed else "failed", g.words] for g in ended.results]
    print_table(f"run {run} is live on {endpoint}", rows, columns=["gate", "", "seen"])
    hint(f"bearloop classify {endpoint} PICTURE")


def rollback(endpoint: EndpointArgument, as_json: Json = False) -> None:
    """Bring back what the endpoint served before."""
    client = connect()
    started = client.endpoints.rollback(endpoint)
    with said.status(f"rollback {started.number}"):
        ended = client.endpoints.wait_for_promotion(endpoint, started.number)
    if as_json:
        print_json(ended)
        return
    said.print(f"{endpoint} serves run {ended.run} again", markup=False)
    hint(f"bearloop classify {endpoint} PICTURE")


def resize(
    endpoint: EndpointArgument,
    *,
    replicas: Annotated[int | None, typer.Option(help="Servers at least.")] = None,
    most_replicas: Annotated[
        int | None,
        typer.Option(help="Servers at most, as the load needs; as many as at least: fixed."),
    ] = None,
    cpu: Annotated[float | None, typer.Option(help="Cores of each server.")] = None,
    memory: Annotated[str | None, typer.Option(help="Of each server, e.g. 1Gi.")] = None,
    as_json: Json = False,
) -> None:
    """Give an endpoint more, fewer or bigger servers; what is not named stays (on a cluster)."""
    asked = {"replicas": replicas, "most_replicas": most_replicas, "cpu": cpu, "memory": memory}
    named = {field: value for field, value in asked.items() if value is not None}
    if not named:
        raise SourceError("name what should change: --replicas, --most-replicas, --cpu, --memory")
    changed = connect().endpoints.resize(endpoint, **cast("Size", named))
    if as_json:
        print_json(changed)
        return
    most = max(changed.replicas, changed.most_replicas or 0)
    count = f"{changed.replicas}" if most == changed.replicas else f"{changed.replicas} to {most}"
    size = f"{changed.cpu or 'default'} cores, {changed.memory or 'default'} memory"
    said.print(f"{endpoint}: {count} servers of {size}", markup=False)
    hint(f"bearloop classify {endpoint} PICTURE")


def classify(
    endpoint: EndpointArgument,
    pictures: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    *,
    token: TokenOption = None,
    url: UrlOption = None,
    as_json: Json = False,
) -> None:
    """Ask an endpoint what is on some pictures."""
    asking = EndpointCaller(connect(), endpoint, token=token, url=url)
    answers = [{"file": str(path), **asking.ask(path)} for path in pictures]
    if as_json:
        print_json(answers)
        return
    rows = [[row["file"], row["class"], percent(row["confidence"])] for row in answers]
    print_table(endpoint, rows, columns=["picture", "class", "confidence"])
    hint(f"bearloop predict {endpoint} FOLDER")


def predict(
    endpoint: EndpointArgument,
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    *,
    output: Annotated[Path | None, typer.Option(help="CSV file; default: stdout.")] = None,
    token: TokenOption = None,
    url: UrlOption = None,
    as_json: Json = False,
) -> None:
    """Classify every picture of a folder into a CSV: file, class, confidence, a column a class."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise SourceError(f"{folder}: no picture in it ({', '.join(sorted(PICTURES))})")
    asking = EndpointCaller(connect(), endpoint, token=token, url=url)
    answers = (
        {"file": _name(path.relative_to(folder)), **_answer(asking, path)}
        for path in track(paths, "classifying", console=said, transient=True)
    )
    if as_json:
        print_json(list(answers))
        return
    with _opened(output) as file:
        rows, refused = write_answers(file, answers)
    said.print(f"{rows - refused} pictures classified, {refused} refused", markup=False)
    hint("import those that were hard, each under its class: bearloop import FOLDER")


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", newline="", encoding="utf-8") as file:
        yield file


def _name(path: Path) -> str:
    """Return a path as text that any file takes, where its bytes are none."""
    return os.fsencode(path.as_posix()).decode(errors="replace")


def _answer(asking: EndpointCaller, path: Path) -> dict[str, Any]:
    try:
        return asking.ask(path)
    except ApiProblem as problem:
        if problem.status in (401, 403):
            raise  # it will be no better with the next picture
        return {"error": problem.detail}


def _ensure_endpoint(client: Client, name: str, *, public: bool, max_error: float | None) -> None:
    try:
        client.endpoints.get(name)
    except ApiProblem as problem:
        if problem.status != 404:
            raise
    else:
        if public or max_error is not None:
            raise SourceError(f"endpoint {name} is there: --public and --max-error are of new ones")
        return
    gates: list[dict[str, Any]] = []
    if max_error is not None:
        gates.append({"kind": "minimum", "metric": "error", "at_most": max_error})
    client.endpoints.create(name, public=public, gates=gates)
    if not public:
        make_token(client, name)
    said.print(f"endpoint {name} made", markup=False)
