"""`bearloop`: the commands in the order of the life, and how errors leave."""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from bearloop.cli import (
    doubts,
    images,
    lr_finder,
    pictures,
    platform,
    recipes,
    reviewing,
    serving,
    training,
)
from bearloop.cli.login import NotLoggedInError
from bearloop.cli.output import fail
from bearloop.cli.sources import SourceError
from bearloop.client import ApiProblem, JobFailedError, UnreachableError
from bearloop.local import LocalError

REFUSED, MISTYPED, UNREACHABLE = 1, 2, 3
"""Exit codes: refused or failed; a wrong command line, as Click has it; no API answers."""

app = typer.Typer(
    help="The whole life of an image classifier: images in, versions, training, review, serving.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
PARTS = (platform, images, pictures, recipes, training, lr_finder, doubts, reviewing, serving)
for part in PARTS:
    part.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, by default the shell's; an error is one sentence, with the way out."""
    try:
        app(arguments)
    except SourceError as error:
        fail(error)
        sys.exit(MISTYPED)
    except (UnreachableError, NotLoggedInError) as error:
        fail(error)
        sys.exit(UNREACHABLE)
    except ValidationError as error:
        fail(UnreachableError(f"the API speaks another version ({error.title}); upgrade bearloop"))
        sys.exit(UNREACHABLE)
    except (ApiProblem, JobFailedError, LocalError, OSError) as error:
        fail(error)
        sys.exit(REFUSED)
