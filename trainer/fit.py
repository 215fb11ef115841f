"""The fit stages, in the order it happens: no callbacks, what is written here is what is done."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bearloop.contract.recipes import FitStage, Recipe
from bearloop.contract.report import Metric
from bearloop.contract.runs import NO_CURVES, Curves, EpochPoint, LrFind
from bearloop.intervals import wilson
from trainer.cache import PresizedPixels
from trainer.checkpoint import Checkpoint, FitState
from trainer.data import held_out
from trainer.errors import InputError, InterruptedRunError
from trainer.evaluate import MeanLoss, NonFiniteError, log_softmax, logits, mean_loss
from trainer.features import Activations, activations, head_logits, seen_by
from trainer.lr_finder import find_rate, no_rate, publish
from trainer.memory import HalvedTogetherError, Memory
from trainer.model import Classifier, freeze_to, set_dropout
from trainer.optimiser import new_optimiser, restore_optimiser
from trainer.order import Rows
from trainer.outcome import leave_curves
from trainer.parts import Parts, say_what_others_halved
from trainer.precision import restore_scale, scale_of
from trainer.ranks import alone
from trainer.run import Run
from trainer.settings import cache_folder
from trainer.snapshots import keep_snapshot
from trainer.step import Lesson, Means, Place, Team, not_finite, train_epoch
from trainer.stopping import as_kept, best_epoch, is_over, why

log = logging.getLogger(__name__)


def fit_stages(recipe: Recipe, finds: Sequence[LrFind] = ()) -> list[FitStage]:
    """Return the recipe's fit stages, in order, with the rates that were found so far."""
    found = {find.stage: find.lr for find in finds}
    stages, rate = [], None
    for _, stage in recipe.fits():
        rate = found.get(stage.name, rate)
        stages.append(stage if rate is None else stage.at(rate))
    return stages


def fit(run: Run, model: Classifier, resumed: Checkpoint | None) -> FitState:
    """Train all stages, or what a checkpoint left of them; the model is trained in place.

    Asked to leave, it saves where it stands and raises InterruptedRunError.
    """
    state = FitState() if resumed is None else resumed.state.model_copy(deep=True)
    run.ranks.check_together(len(state.steps))
    run.ranks.share_statistics(model)
    if resumed is not None:
        model.load_state_dict(resumed.model)
    if state.lr_finds:
        # What an attempt before found is read in this one's mailbox from now on.
        publish(run, state.lr_finds, new=state.lr_finds)
    means = _means(run, state)
    body, validation = _parts(run, state)
    with _curves_left(run, state):
        for place, stage in enumerate(fit_stages(run.spec.recipe)):
            if place < state.stage:
                continue
            _prepare(model, run.spec.recipe, stage)
            # Of a stage that had ended before nothing is left but to take its weights.
            over = place == state.stage and _has_ended(state, stage)
            known = None if over else _activations(run, model, state, stage=stage, parts=body)
            stage = _with_rate(run, model, state, place=place, memory=means.memory, known=known)
            optimiser = new_optimiser(model, stage)
            best: dict[str, Tensor] = {}
            if resumed is not None and place == resumed.state.stage:
                restore_optimiser(optimiser, model, resumed.optimiser)
                best = dict(resumed.best)
            if place > state.stage:
                state.stage, state.epoch = place, 0
            learner = run.ranks.learner(model if known is None else model.head)
            team = Team(run.ranks, learner, means)
            with run.interruption.deferred():
                _fit_stage(
                    run, _Learning(stage, model, optimiser, state, team, best, known, validation)
                )
    say_what_others_halved(run.ranks, (body, validation))
    return state


def note(run: Run, state: FitState, sentence: str) -> None:
    """Tell in the run's events and in MLflow what happened beside the plan."""
    log.warning("%s", sentence)
    # An attempt that goes on may run out of the same memory again.
    if sentence not in state.notes:
        state.notes.append(sentence)
    _tell(run, state)


def fit_rows(
    model: Classifier,
    *,
    recipe: Recipe,
    curves: Curves = NO_CURVES,
    presized: PresizedPixels,
    rows: Rows,
    labels: Rows,
    seed: int,
    memory: Memory | None = None,
) -> None:
    """Train all stages on some rows only, unseen by anybody: for judging the others' labels.

    `curves` are the run's: no rate is searched again, and where it stopped this stops. What
    `memory` knows of the device's is not found out again.
    """
    epochs = steps = 0
    team = Team(alone(), model, Means.of(recipe, next(model.parameters()).device, memory))
    for planned in fit_stages(recipe, curves.lr_finds):
        stage = as_kept(planned, curves)
        _prepare(model, recipe, stage)
        optimiser = new_optimiser(model, stage)
        lesson = Lesson(recipe.during(stage), stage, presized, rows, labels, seed)
        for epoch in range(stage.epochs):
            place = Place(epoch, epochs, batch=0, steps=steps)
            taken = train_epoch(model, optimiser, lesson=lesson, place=place, team=team)
            steps += sum(1 for _ in taken)
            epochs += 1


@dataclass(frozen=True)
class _Learning:
    """What one stage changes."""

    stage: FitStage
    model: Classifier
    optimiser: torch.optim.AdamW
    state: FitState
    team: Team
    best: dict[str, Tensor]
    """The model of the best epoch, where the stage may stop early."""
    known: Activations | None
    """What the head learns from where the body's pass is behind it; None: from pictures."""
    validation: Parts


def _prepare(model: Classifier, recipe: Recipe, stage: FitStage) -> None:
    """Freeze what the stage leaves alone, and drop out as much as it says."""
    freeze_to(model, stage.frozen_to)
    set_dropout(model, recipe.during(stage).dropout)


def _activations(
    run: Run, model: Classifier, state: FitState, *, stage: FitStage, parts: Parts
) -> Activations | None:
    feeding = run.spec.recipe.feeding(stage)
    if feeding is None:
        return None
    with state.timed("features"):
        return activations(
            run, model, feeding=feeding, stage=stage, folder=cache_folder(), parts=parts
        )


def _means(run: Run, state: FitState) -> Means:
    """Return what the steps are taken with, as a checkpoint left it; the state keeps up with it."""

    def say(_: int, sentence: str) -> None:
        state.halvings = memory.halvings
        note(run, state, sentence)

    memory = Memory(state.halvings, say=say, together=run.ranks.count > 1)
    means = Means.of(run.spec.recipe, run.device, memory)
    restore_scale(means.scaler, state.scale)
    if state.notes:
        _tell(run, state)
    return means


def _parts(run: Run, state: FitState) -> tuple[Parts, Parts]:
    """Return how many pictures fit in a body's pass and in validation, for all stages."""

    def say(sentence: str) -> None:
        note(run, state, sentence)

    return Parts("the body's pass", say), Parts("validation", say)


def _tell(run: Run, state: FitState) -> None:
    if run.ranks.leads:
        run.mailbox.say("; ".join(state.notes))
        run.tracker.tell(state.notes)


@contextmanager
def _curves_left(run: Run, state: FitState) -> Iterator[None]:
    """Let a run that its input ends show how far it came."""
    try:
        yield
    except InputError:
        leave_curves(run, state.curves())
        raise


def _with_rate(
    run: Run,
    model: Classifier,
    state: FitState,
    *,
    place: int,
    memory: Memory,
    known: Activations | None,
) -> FitStage:
    """Return a stage whose layers are unfrozen with its rate, searched before where it says so."""
    recipe = run.spec.recipe
    search, stage = recipe.fits()[place]
    if search is not None and stage.name not in {find.stage for find in state.lr_finds}:
        with run.interruption.deferred():
            with _saved_when_halved(run, model, state), state.timed(f"lr-find {stage.name}"):
                found = find_rate(
                    run, model, search=search, stage=stage, memory=memory, known=known
                )
            state.lr_finds.append(found)
        publish(run, state.lr_finds, new=[found])
    stage = fit_stages(recipe, state.lr_finds)[place]
    if stage.lr == "auto":
        raise no_rate(stage, state.lr_finds)
    return stage


def _fit_stage(run: Run, now: _Learning) -> None:
    state = now.state
    while not _has_ended(state, now.stage):
        started = time.monotonic() - state.seconds
        _train(run, now, started)
        loss, error = _validate(run, now) or (None, None)
        point = EpochPoint(
            stage=now.stage.name,
            epoch=len(state.epochs) + 1,
            train_loss=state.loss_sum / state.pictures,
            valid_loss=None if loss is None else loss.value,
            valid_loss_low=None if loss is None else loss.low,
            valid_loss_high=None if loss is None else loss.high,
            error_rate=None if error is None else error.value,
            error=error,
            seconds=time.monotonic() - started,
            step=len(state.steps),
        )
        state.end_epoch(point)
        run.tracker.log_epoch(point)
        if state.epoch in now.stage.snapshots:
            # Before the checkpoint that has this epoch behind it: no attempt would come here again.
            keep_snapshot(run, now.model, epoch=state.epoch)
        if best_epoch(state.epochs, now.stage) == point:
            now.best.update({k: v.detach().clone() for k, v in now.model.state_dict().items()})
        if _has_ended(state, now.stage):
            _save(run, now)
    if run.ranks.count > 1:
        # While the last epoch is validated only one of them may have heard it.
        _leave_if_asked(run, now)
    if now.best:
        _end_with_best(run, now)


def _has_ended(state: FitState, stage: FitStage) -> bool:
    """Tell of the stage where the state stands."""
    return state.epoch == stage.epochs or is_over(state.epochs, stage)


def _end_with_best(run: Run, now: _Learning) -> None:
    state, best = now.state, best_epoch(now.state.epochs, now.stage)
    assert best is not None
    now.model.load_state_dict(now.best)
    if now.stage.name not in state.kept:
        state.kept[now.stage.name] = best.epoch
        note(run, state, why(state.epochs, now.stage))


def _train(run: Run, now: _Learning, started: float) -> None:
    """Train what is left of the running epoch."""
    state = now.state
    recipe = run.spec.recipe.during(now.stage)
    seen, rows, labels = seen_by(run, now.known, epoch=state.epoch)
    lesson = Lesson(recipe, now.stage, seen, rows, labels, run.spec.seed)
    place = Place(state.epoch, len(state.epochs), state.batch, len(state.steps))
    with _saved_when_halved(run, now.model, state, now=now):
        for step in train_epoch(
            now.model, now.optimiser, lesson=lesson, place=place, team=now.team
        ):
            state.end_step(step.point, pictures=step.pictures, seconds=time.monotonic() - started)
            run.tracker.log_step(step.point)
            run.mailbox.progress(now.stage.name, step.done, step.total, numbers=_numbers(state))
            _leave_if_asked(run, now)
            # The first process alone saves, and the others need not agree that it does.
            if run.ranks.leads and run.checkpoints.is_due():
                _save(run, now)


def _validate(run: Run, now: _Learning) -> tuple[MeanLoss, Metric] | None:
    """Return mean loss and error of the valid images, in fp32, at the stage's size.

    None where the run learns from them too: what is known of them would be no measure.
    """
    apart = held_out(run.items, run.spec.recipe)
    if apart is None:
        return None
    rows, labels = apart
    try:
        own = _valid_logits(run, now, rows)
    except NonFiniteError as error:
        raise not_finite(now.stage, step=len(now.state.steps), what=str(error)) from error
    answers = run.ranks.gathered(own)
    losses = -log_softmax(answers)[np.arange(len(labels)), labels]
    wrong = int((answers.argmax(axis=1) != labels).sum())
    return mean_loss(losses), wilson(wrong, len(labels))


def _valid_logits(run: Run, now: _Learning, rows: Rows) -> NDArray[np.float32]:
    """Return this process's share of the answers."""
    if now.known is not None:
        places = run.ranks.share(np.arange(len(rows)))
        assert now.known.valid is not None
        return head_logits(now.model, now.known.valid[places], device=run.device)
    recipe = run.spec.recipe.during(now.stage)
    return logits(
        now.model,
        run.evaluation.at(recipe.preprocess.size),
        run.ranks.share(rows),
        device=run.device,
        preprocess=recipe.preprocess,
        batch_size=recipe.batch_size,
        # Several leave together, and so between two steps only.
        report=None if run.ranks.count > 1 else lambda *_: _leave_if_asked(run, now),
        parts=now.validation,
    )


def _leave_if_asked(run: Run, now: _Learning) -> None:
    if run.ranks.any(run.interruption.requested):
        _save(run, now)
        run.ranks.wait()
        raise InterruptedRunError(f"asked to leave after step {len(now.state.steps)}")


@contextmanager
def _saved_when_halved(
    run: Run, model: Classifier, state: FitState, *, now: _Learning | None = None
) -> Iterator[None]:
    """Let the process that ran out of memory say so in the checkpoint that all go on from.

    The step was not taken: weights and optimiser are every process's own.
    """
    try:
        yield
    except HalvedTogetherError:
        if now is None:
            run.checkpoints.save(model, None, state)
        else:
            state.scale = scale_of(now.team.means.scaler)
            run.checkpoints.save(model, now.optimiser, state, best=now.best)
        raise


def _save(run: Run, now: _Learning) -> None:
    now.state.scale = scale_of(now.team.means.scaler)
    if run.ranks.leads:
        run.checkpoints.save(now.model, now.optimiser, now.state, best=now.best)
        run.tracker.flush()


def _numbers(state: FitState) -> dict[str, float]:
    """Name the newest figures for the progress."""
    numbers = {"epoch": float(len(state.epochs) + 1), "train_loss": state.steps[-1].loss}
    if state.epochs:
        names = {"valid_loss", "error_rate"}
        numbers |= state.epochs[-1].model_dump(include=names, exclude_none=True)
    return numbers
