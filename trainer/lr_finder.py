"""The lr-find stage: training at growing rates, after which everything is as it was before.

As fastai's `lr_find`: the rate grows exponentially from step to step, the loss is smoothed, and the
search ends where that is four times its best.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice

import torch
from torch import nn

from bearloop.contract.recipes import FitStage, Flat, LrFindStage, Recipe
from bearloop.contract.runs import LR_FINDER_FILE, LrFind, LrFinds, LrPoint, lr_picture_file
from trainer.errors import InputError, InterruptedRunError
from trainer.features import Activations, seen_by
from trainer.lr_suggestions import suggest
from trainer.memory import Memory
from trainer.model import Classifier
from trainer.objective import class_weights
from trainer.optimiser import new_optimiser, set_rates
from trainer.order import Rows, batches, epoch_order, step_seed
from trainer.plots import draw_lr_find
from trainer.run import Run
from trainer.step import Means, Share, Team, train_step

SMOOTHING = 0.98
"""Of the running mean, corrected for its start: fastai's."""


def find_rate(
    run: Run,
    model: Classifier,
    *,
    search: LrFindStage,
    stage: FitStage,
    memory: Memory | None = None,
    known: Activations | None = None,
) -> LrFind:
    """Search a rate for `stage`, whose layers are unfrozen already; the model stays as it is.

    Batches that `memory` halves stay halved. Where a head learns from `known` activations, the
    search does too.

    Asked to leave, it raises InterruptedRunError: a search is short, and begun anew.
    """
    points: list[LrPoint] = []
    end = "finished"
    with unchanged(model):
        for point in _points(run, model, search=search, stage=stage, memory=memory, known=known):
            if point is None:
                end = "not_finite"
                break
            points.append(point)
            if point.smoothed > search.stop_at * min(past.smoothed for past in points):
                end = "diverged"
                break
    _leave_if_asked(run)
    broken = [float("nan")] * (end == "not_finite")
    found = suggest(
        [rate_of(search, place) for place in range(len(points) + len(broken))],
        [point.loss for point in points] + broken,
        smoothed=[point.smoothed for point in points] + broken,
        iterations=search.iterations,
    )
    return LrFind.model_validate(
        {
            "stage": stage.name,
            "points": points,
            "end": end,
            "suggestions": found.rates,
            "no_suggestion": found.none,
            "reason": found.reason,
            "disagreement": found.disagreement,
            "lr": found.rates.get(search.suggestion),
        }
    )


def publish(run: Run, finds: Sequence[LrFind], *, new: Sequence[LrFind]) -> None:
    """Keep the curves beside the attempt's progress, readable while the run goes on.

    Those that are `new` to the attempt are drawn too: each is once.
    """
    if not run.ranks.leads:
        return
    store, prefix = run.mailbox.store, run.mailbox.prefix
    # The pictures first: who reads of a search finds its picture.
    for find in new:
        store.put(prefix + lr_picture_file(find.stage), draw_lr_find(find))
    store.put(prefix + LR_FINDER_FILE, LrFinds(finds=tuple(finds)).canonical())


def no_rate(stage: FitStage, finds: Sequence[LrFind]) -> InputError:
    """Return the error of a stage whose rate was searched for in vain."""
    reason = finds[-1].reason if finds else "nothing was searched"
    return InputError(
        "no_rate_found",
        f"no rate is suggested for the stage {stage.name!r}: {reason}",
        field="recipe.stages.lr",
        value="auto",
        way_out="look at the run's lr-finder curve and give the rate as a number",
    )


def rate_of(search: LrFindStage, place: int) -> float:
    """Return the head's rate at one step, from 0."""
    growth = search.end_lr / search.start_lr
    return float(search.start_lr * growth ** (place / search.iterations))


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Whatever happens inside, put back weights, statistics and random state, to the bit."""
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    training = model.training
    devices = sorted({tensor.device.index for tensor in before.values() if tensor.is_cuda})
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        model.train(training)


def _points(
    run: Run,
    model: Classifier,
    *,
    search: LrFindStage,
    stage: FitStage,
    memory: Memory | None,
    known: Activations | None,
) -> Iterator[LrPoint | None]:
    """Yield each step's point; None where the loss is no number, and nothing after it."""
    ranks, recipe, seed = run.ranks, run.spec.recipe.during(stage), run.spec.seed
    seen, rows, labels = seen_by(run, known)
    weights = class_weights(labels, recipe)
    learner = ranks.learner(model if known is None else model.head)
    team = Team(ranks, learner, Means.of(recipe, run.device, memory))
    optimiser = new_optimiser(model, stage.model_copy(update={"lr": search.start_lr}))
    smoothed = _Smoothed()
    model.train()
    for place, batch in enumerate(islice(_batches(run, recipe, labels), search.iterations)):
        _leave_if_asked(run)
        lr = rate_of(search, place)
        at = _at(stage, lr)
        set_rates(optimiser, at, groups=len(model.layer_groups()), step=0, steps=1)
        own = ranks.share(batch)
        try:
            loss = train_step(
                team.learner,
                optimiser,
                pictures=seen.gather(rows[own]),
                labels=labels[own],
                recipe=recipe,
                stage=at,
                seed=step_seed(seed, place + 1, rank=ranks.number),
                step=place + 1,
                share=Share(ranks, len(own), len(batch)),
                weights=weights,
                means=team.means,
            )
        except InputError as error:
            if error.problem.code != "loss_not_finite":
                raise
            yield None
            return
        point = LrPoint(lr=lr, loss=loss, smoothed=smoothed.add(loss))
        run.mailbox.progress(
            "lr-find", place + 1, search.iterations, numbers={"lr": lr, "loss": point.smoothed}
        )
        yield point


def _leave_if_asked(run: Run) -> None:
    if run.ranks.any(run.interruption.requested):
        raise InterruptedRunError("asked to leave while a rate was searched")


def _batches(run: Run, recipe: Recipe, labels: Rows) -> Iterator[Rows]:
    """Yield the batches that a run would see which begins here, epoch after epoch."""
    for epoch in count():
        order = epoch_order(labels, seed=run.spec.seed, epoch=epoch, oversample=recipe.oversample)
        yield from batches(order, recipe.step_size, least=run.ranks.least_batch)


def _at(stage: FitStage, lr: float) -> FitStage:
    """Return the stage at one rate; its layer groups keep their shares of it."""
    share = stage.body_share
    body = None if share is None else lr * share
    return stage.model_copy(update={"lr": lr, "lr_body": body, "schedule": Flat()})


class _Smoothed:
    """A running exponential mean, corrected for its start."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._count = 0

    def add(self, value: float) -> float:
        """Take one more value; returns the mean."""
        self._count += 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * value
        return self._mean / (1 - SMOOTHING**self._count)
