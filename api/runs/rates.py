"""The rates of a recipe's stages as a run changes them; pure.

A rate is a number, or a multiple of what the newest search before it finds. Two rates have a
proportion when both are numbers, or both multiples of one find; what has none to the rate that
changes stays as the recipe has it.
"""

from collections.abc import Iterator

from bearloop.contract.recipes import FitStage, LrFindStage, Stage


def with_rate(stages: tuple[Stage, ...], lr: float) -> tuple[Stage, ...]:
    """Give the first fit stage this rate, and numbers in proportion to what has one to it."""
    fits = list(_fits(stages))
    if not fits:
        return stages
    _, first, unit = fits[0]
    alike = {place for place, _, of in fits if of == unit}
    return tuple(
        _in_proportion(stage, to=_rate(first)).at(lr)
        if isinstance(stage, FitStage) and place in alike
        else stage
        for place, stage in enumerate(stages)
    )


def with_rates_found(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Let a search before the first fit stage, and those that are there, find what are numbers.

    The numbers behind one search become multiples in proportion to the first of them.
    """
    found: list[Stage] = []
    before: list[FitStage] = []
    for stage in stages:
        if isinstance(stage, LrFindStage):
            before = []
        if not isinstance(stage, FitStage):
            found.append(stage)
            continue
        searched = any(isinstance(step, LrFindStage) for step in found)
        found += [] if searched else [LrFindStage()]
        before.append(stage)
        # Behind an `auto` stage a number has no proportion to what is found.
        known = isinstance(stage.lr, str) or isinstance(before[0].lr, str)
        found.append(stage if known else _in_proportion(stage, to=_rate(before[0])))
    return tuple(found)


def _fits(stages: tuple[Stage, ...]) -> Iterator[tuple[int, FitStage, int | None]]:
    """Give the fit stages by place, each with the search that its rate is a multiple of.

    Of a number there is none; an `auto` stage without a search gets a place that no search has.
    """
    search = -1
    for place, stage in enumerate(stages):
        if isinstance(stage, LrFindStage):
            search = place
        elif isinstance(stage, FitStage):
            yield place, stage, search if isinstance(stage.lr, str) else None


def _rate(stage: FitStage) -> float:
    """Return the head's rate, as a number or as a multiple of what is found."""
    return (stage.lr_times or 1.0) if isinstance(stage.lr, str) else stage.lr


def _in_proportion(stage: FitStage, *, to: float) -> FitStage:
    """Return the stage with its rates as multiples of a rate that is yet to be known."""
    times, share = _rate(stage) / to, stage.body_share
    multiples = {
        "lr": "auto",
        "lr_body": None,
        "lr_times": None if times == 1 else times,
        "lr_body_times": None if share is None else times * share,
    }
    return stage.model_copy(update=multiples)
