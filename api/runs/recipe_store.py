"""A project's own recipes beside bearloop's named ones."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import audit
from api.access import Caller
from api.errors import ConflictError, NotFoundError, UnprocessableError
from api.runs.named_recipes import NAMED
from api.runs.recipe_faults import BrokenRecipeError, check_whole, stored_recipe
from api.runs.recipes import Changes, changed
from api.runs.schemas import RecipeView
from api.tables import Recipe as RecipeRow
from bearloop.contract.models import with_own_statistics
from bearloop.contract.recipes import Recipe


class UnknownRecipeError(UnprocessableError):
    """Neither bearloop nor the project has a recipe of this name."""

    code = "unknown_recipe"
    title = "Unknown recipe"


class NoSuchRecipeError(NotFoundError):
    """Neither bearloop nor the project has a recipe of this name."""

    code = "no_such_recipe"
    title = "No such recipe"


class WrongRecipeError(UnprocessableError):
    """No trainer could follow the recipe."""

    code = "wrong_recipe"
    title = "Wrong recipe"


class RecipeExistsError(ConflictError):
    """The name stands for other steps already."""

    code = "recipe_exists"
    title = "Recipe exists"


def list_recipes(session: Session, caller: Caller) -> list[RecipeView]:
    """List bearloop's named recipes, then the project's own by name."""
    rows = session.scalars(
        select(RecipeRow).where(RecipeRow.project_id == caller.project_id).order_by(RecipeRow.name)
    )
    named = [RecipeView.of(recipe, own=False) for recipe in NAMED.values()]
    return [*named, *(RecipeView.of(_read(row.body), own=True) for row in rows)]


def add_recipe(session: Session, caller: Caller, recipe: Recipe) -> RecipeView:
    """Store the project's recipe; the same one again changes nothing, another one is refused.

    What it does not say of how pixels are normalised is stored as its weights expect it.
    """
    recipe = checked(with_own_statistics(recipe))
    if recipe.name in NAMED:
        raise _exists(recipe, "bearloop's own")
    added = session.scalar(
        insert(RecipeRow)
        .values(
            project_id=caller.project_id,
            name=recipe.name,
            body=recipe.model_dump(mode="json"),
            created_by=caller.name,
        )
        .on_conflict_do_nothing()
        .returning(RecipeRow.name)
    )
    if added:
        target, digest = f"{caller.project}/recipes/{recipe.name}", recipe.digest()
        audit.record(session, caller, "recipe.add", target=target, digest=digest)
    elif find_recipe(session, caller, recipe.name) != recipe:
        raise _exists(recipe, "the project's")
    return RecipeView.of(recipe, own=True)


def show_recipe(session: Session, caller: Caller, name: str) -> RecipeView:
    """Show the recipe of this name; raises NoSuchRecipeError."""
    found = _look_up(session, caller, name)
    if found is None:
        raise NoSuchRecipeError(
            f"there is no recipe {name!r}",
            field="recipe",
            value=name,
            way_out="GET …/recipes lists them",
        )
    return RecipeView.of(found, own=name not in NAMED)


def find_recipe(session: Session, caller: Caller, name: str) -> Recipe:
    """Return the recipe of this name; raises UnknownRecipeError."""
    found = _look_up(session, caller, name)
    if found is None:
        raise UnknownRecipeError(
            f"there is no recipe {name!r}",
            field="recipe",
            value=name,
            way_out=f"take {' or '.join(NAMED)}, one that GET …/recipes lists, or give the steps",
        )
    return found


def checked(recipe: Recipe) -> Recipe:
    """Return the recipe when a trainer can follow it; raises WrongRecipeError."""
    try:
        check_whole(recipe)
    except BrokenRecipeError as error:
        raise _wrong(error) from error
    return recipe


def checked_changes(recipe: Recipe, changes: Changes) -> Recipe:
    """Return the recipe as a run changes it; raises WrongRecipeError."""
    try:
        return checked(changed(recipe, changes))
    except BrokenRecipeError as error:
        raise _wrong(error) from error


def _look_up(session: Session, caller: Caller, name: str) -> Recipe | None:
    """Return bearloop's own recipe of this name, or the project's."""
    if name in NAMED:
        return NAMED[name]
    row = session.get(RecipeRow, (caller.project_id, name))
    return None if row is None else _read(row.body)


def _read(body: object) -> Recipe:
    try:
        return stored_recipe(body)
    except BrokenRecipeError as error:
        raise _wrong(error) from error


def _wrong(error: BrokenRecipeError) -> WrongRecipeError:
    found = (error, *error.others)
    errors = [
        {"field": one.field, "detail": str(one), "value": one.value, "way_out": one.way_out}
        for one in found
    ]
    return WrongRecipeError(
        str(error), field=error.field, value=error.value, way_out=error.way_out, errors=errors
    )


def _exists(recipe: Recipe, whose: str) -> RecipeExistsError:
    return RecipeExistsError(
        f"{recipe.name} is {whose} recipe already, with other steps",
        field="name",
        value=recipe.name,
        way_out="in this list a name stands for its steps for ever: give yours another one",
    )
