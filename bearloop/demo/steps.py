"""Steps of the life that the digits and the user's own photographs have in common."""

from pathlib import Path
from typing import NamedTuple

from bearloop.cli.images import upload_folder
from bearloop.cli.output import job_bar, said
from bearloop.client import Client
from bearloop.client.views import ImportView, VersionView


class Live(NamedTuple):
    """A running endpoint, and what opens it."""

    url: str
    token: str


def bring_in(client: Client, dataset: str, folder: Path) -> tuple[ImportView, VersionView]:
    """Make a dataset of class folders, and freeze it."""
    client.datasets.create(dataset)
    source = upload_folder(client, dataset, folder)
    started = client.datasets.start_import(dataset, source)
    with job_bar("import") as show:
        ended = client.datasets.wait_for_import(dataset, started.number, show=show)
    return ended, client.datasets.freeze(dataset)


def wait_for_run(client: Client, run: int) -> int:
    """Show a run's progress until it is done; return its number."""
    with job_bar(f"run {run}") as show:
        client.runs.wait(run, show=show)
    return run


def promote(client: Client, endpoint: str, run: int) -> Live:
    """Make an endpoint, and bring a run's model to it."""
    client.endpoints.create(endpoint)
    token = client.endpoints.create_token(endpoint, "demo")
    started = client.endpoints.promote(endpoint, run)
    with said.status("gates, roll-out"):
        client.endpoints.wait_for_promotion(endpoint, started.number)
    url = client.endpoints.get(endpoint).url
    assert url is not None, "a live promotion has an address"
    return Live(url, token)
