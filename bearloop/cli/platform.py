"""`up`, `demo` and `login`: the platform itself."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bearloop.cli.login import Login, save_login
from bearloop.cli.output import Json, hint, print_json, said
from bearloop.client import Client
from bearloop.environment import read_environment
from bearloop.local import Plan, free_port, running, stay_up

Folder = Annotated[
    Path | None, typer.Option(help="Where the data lie; default BEARLOOP_FOLDER or ~/.local/share.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.command()(up)
    app.command()(demo)
    app.command()(login)


def up(
    folder: Folder = None,
    *,
    port: Annotated[int, typer.Option(help="Of the API and the pages.")] = 8080,
    tracking_port: Annotated[int, typer.Option(help="Of MLflow.")] = 5000,
    as_json: Json = False,
) -> None:
    """Run the whole platform on this machine, until Ctrl-C."""
    environment = read_environment()
    plan = Plan(
        folder=(folder or environment.folder).absolute(),
        api_port=port,
        tracking_port=tracking_port,
        say=lambda text: said.print(text, markup=False),
        store_url=environment.store_url,
    )
    with running(plan) as platform:
        said.print(f"API docs {plan.api_url}/docs   MLflow {plan.tracking_url}", markup=False)
        said.print(f"admin token in {plan.login_file} (the CLI finds it)", markup=False)
        hint("bearloop import FOLDER (class folders), in another terminal")
        if as_json:
            addresses = {"api": plan.api_url, "mlflow": plan.tracking_url}
            print_json({**addresses, "login": str(plan.login_file)})
            sys.stdout.flush()
        stay_up(platform)


def demo(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="Where the demo's data lie; default: a temporary folder.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Your own photographs, as class folders."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of the body: a file: address.")] = None,
    model: Annotated[str | None, typer.Option(help="The classifier that they fit.")] = None,
    leave: Annotated[bool, typer.Option("--exit", help="End when the life is told.")] = False,
) -> None:
    """Run the whole life once, on handwritten digits or on your own photographs."""
    from bearloop.demo.story import Asked, tell

    asked = Asked(folder=folder, data=data, weights=weights, model=model, stay=not leave)
    tell(asked, port=free_port(8080), tracking_port=free_port(5000))


def login(
    url: Annotated[str, typer.Argument(help="The API's address.")],
    token: Annotated[str, typer.Option(prompt=True, hide_input=True)],
    project: Annotated[str, typer.Option(help="The project to work in.")] = "main",
    *,
    as_json: Json = False,
) -> None:
    """Check a token against an API and keep both for this user."""
    client = Client(url, token, project=project)
    client.connection.get(f"/v1/projects/{project}/members")
    path = save_login(Login(url, token, project))
    if as_json:
        print_json({"url": url, "project": project, "file": str(path)})
        return
    said.print(f"logged in to {url}, project {project}; kept in {path}", markup=False)
    hint("bearloop import FOLDER")
