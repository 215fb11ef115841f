"""`recipes`: what a run may follow, and the project's own."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bearloop.cli.login import connect
from bearloop.cli.output import Json, hint, print_json, print_table, said
from bearloop.client import ApiProblem

recipes = typer.Typer(help="Named training steps, and the project's own.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.add_typer(recipes, name="recipes")


@recipes.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List bearloop's recipes and the project's own."""
    found = list(connect().recipes.list())
    if as_json:
        print_json(found)
        return
    rows = [
        [
            one.name,
            "the project's" if one.own else "bearloop's",
            _steps(one.recipe),
            one.digest[:12],
        ]
        for one in found
    ]
    print_table("recipes", rows, columns=["recipe", "whose", "stages", "digest"])
    hint("bearloop recipes show RECIPE, or bearloop train DATASET --recipe RECIPE")


@recipes.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="The recipe's name.")], as_json: Json = False
) -> None:
    """Print a recipe complete, as JSON that `recipes add` takes under another name."""
    found = connect().recipes.get(name)
    print_json(found if as_json else found.recipe)
    if not as_json:
        hint("change it, give it a name of its own, then `bearloop recipes add FILE`")


@recipes.command("add")
def add_recipe(
    file: Annotated[Path, typer.Argument(help="JSON of one recipe.")], as_json: Json = False
) -> None:
    """Store a recipe of the project's own; all that is wrong with it is told at once."""
    try:
        made = connect().recipes.add(_read(file))
    except ApiProblem as problem:
        for wrong in problem.errors:
            said.print(f"{wrong['field']}: {wrong['detail']}", markup=False, soft_wrap=True)
            said.print(f"  {wrong.get('way_out')}", markup=False, soft_wrap=True)
        raise
    if as_json:
        print_json(made)
        return
    said.print(f"recipe {made.name}: {_steps(made.recipe)}", markup=False)
    hint(f"bearloop train DATASET --recipe {made.name}")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise typer.BadParameter(
            f"{file} holds no JSON object; `bearloop recipes show NAME` prints one"
        )
    return content


def _steps(recipe: dict[str, Any]) -> str:
    return ", ".join(stage.get("name", stage["kind"]) for stage in recipe["stages"])
