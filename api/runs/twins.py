"""Which run tells how good a recipe is whose own run was trained on all images; pure."""

from collections.abc import Iterable
from typing import NamedTuple

from bearloop.contract.recipes import Recipe


class Candidate(NamedTuple):
    """A run of the same version that is done."""

    number: int
    seed: int
    recipe: Recipe


class FullRun(NamedTuple):
    """A run on all images, as a person would ask for it."""

    number: int
    dataset: str
    version: int
    recipe: str
    seed: int


def choose_twin(recipe: Recipe, seed: int, candidates: Iterable[Candidate]) -> int | None:
    """Return the number of a run with the same steps whose splits were kept; None: there is none.

    Of several one of the same seed is taken, and of those the newest; the names of the recipes may
    differ.
    """
    steps = _steps(recipe)
    twins = [
        one for one in candidates if one.recipe.train_on == "train" and _steps(one.recipe) == steps
    ]
    chosen = max(twins, key=lambda one: (one.seed == seed, one.number), default=None)
    return None if chosen is None else chosen.number


def way_to_twin(run: FullRun, twin: int | None) -> str:
    """Say where the figures are that a run on all images has none of."""
    if twin is not None:
        return f"look at its twin, run {twin}, whose splits were kept"
    command = (
        f"bearloop train {run.dataset} --version {run.version} --recipe {run.recipe} "
        f"--train-on train --seed {run.seed}"
    )
    return (
        f"train the same recipe on version {run.version} with its splits kept: `{command}`, and "
        f"what else run {run.number} was given (GET …/runs/{run.number}/spec)"
    )


def _steps(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"name": "", "train_on": "train"})
