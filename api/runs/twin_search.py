"""The twins of runs that were trained on all images, found among the runs of their versions."""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.runs.twins import Candidate, FullRun, choose_twin
from api.tables import Dataset, Job, JobState, Run, Version
from bearloop.contract.recipes import Recipe


def find_twins(session: Session, runs: Iterable[tuple[Run, Recipe]]) -> dict[int, int]:
    """Return the number of each run's twin by the run's id; only of those that have one."""
    full = [(run, recipe) for run, recipe in runs if recipe.train_on == "all"]
    known = _candidates(session, {run.version_id for run, _ in full}) if full else {}
    found = {
        run.id: choose_twin(recipe, run.seed, known.get(run.version_id, ())) for run, recipe in full
    }
    return {run_id: number for run_id, number in found.items() if number is not None}


def find_twin(session: Session, run: Run, recipe: Recipe) -> int | None:
    """Return the number of the run's twin; None where it has none, or needs none."""
    return find_twins(session, [(run, recipe)]).get(run.id)


def full_run(run: Run, version: Version, dataset: Dataset) -> FullRun:
    """Name a run on all images as its twin is asked for."""
    return FullRun(
        run.number,
        dataset=dataset.name,
        version=version.number,
        recipe=run.recipe,
        seed=run.seed,
    )


def _candidates(session: Session, versions: set[int]) -> dict[int, list[Candidate]]:
    # A version belongs to one project, and so do its runs.
    rows = session.execute(
        select(Run.version_id, Run.number, Run.seed, Job.spec["recipe"])
        .join(Job, Job.id == Run.job_id)
        .where(Run.version_id.in_(versions), Job.state == JobState.done)
    )
    found: dict[int, list[Candidate]] = defaultdict(list)
    for version, number, seed, recipe in rows:
        found[version].append(Candidate(number, seed, Recipe.model_validate(recipe)))
    return found
