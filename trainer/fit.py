"""The fit stages, in the order it happens: no callbacks, what is written here is what is done."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from bearloop.contract.recipes import FitStage, Recipe
from bearloop.contract.runs import EpochPoint
from trainer.cache import PresizedPixels
from trainer.checkpoint import Checkpoint, FitState
from trainer.data import labelled
from trainer.errors import InterruptedRunError
from trainer.evaluate import NonFiniteError, log_softmax, logits
from trainer.model import Classifier, freeze_to
from trainer.optimiser import new_optimiser, restore_optimiser
from trainer.order import Rows
from trainer.run import Run
from trainer.step import Lesson, Place, not_finite, train_epoch


def fit_stages(recipe: Recipe) -> list[FitStage]:
    """Return the recipe's fit stages, in order."""
    return [stage for stage in recipe.stages if isinstance(stage, FitStage)]


def fit(run: Run, model: Classifier, resumed: Checkpoint | None) -> FitState:
    """Train all stages, or what a checkpoint left of them; the model is trained in place.

    Asked to leave, it saves where it stands and raises InterruptedRunError.
    """
    state = FitState() if resumed is None else resumed.state.model_copy(deep=True)
    if resumed is not None:
        model.load_state_dict(resumed.model)
    for place, stage in enumerate(fit_stages(run.spec.recipe)):
        if place < state.stage:
            continue
        freeze_to(model, stage.frozen_to)
        optimiser = new_optimiser(model, stage)
        if resumed is not None and place == resumed.state.stage:
            restore_optimiser(optimiser, model, resumed.optimiser)
        if place > state.stage:
            state.stage, state.epoch = place, 0
        with run.interruption.deferred():
            _fit_stage(run, _Learning(stage, model, optimiser, state))
    return state


def fit_rows(
    model: Classifier,
    *,
    recipe: Recipe,
    presized: PresizedPixels,
    rows: Rows,
    labels: Rows,
    seed: int,
) -> None:
    """Train all stages on some rows only, unseen by anybody: for judging the others' labels."""
    epochs = steps = 0
    for stage in fit_stages(recipe):
        freeze_to(model, stage.frozen_to)
        optimiser = new_optimiser(model, stage)
        lesson = Lesson(recipe, stage, presized, rows, labels, seed)
        for epoch in range(stage.epochs):
            place = Place(epoch, epochs, batch=0, steps=steps)
            steps += sum(1 for _ in train_epoch(model, optimiser, lesson=lesson, place=place))
            epochs += 1


@dataclass(frozen=True)
class _Learning:
    """What one stage changes."""

    stage: FitStage
    model: Classifier
    optimiser: torch.optim.AdamW
    state: FitState


def _fit_stage(run: Run, now: _Learning) -> None:
    state = now.state
    while state.epoch < now.stage.epochs:
        started = time.monotonic() - state.seconds
        _train(run, now, started)
        valid_loss, error_rate = _validate(run, now)
        point = EpochPoint(
            stage=now.stage.name,
            epoch=len(state.epochs) + 1,
            train_loss=state.loss_sum / state.pictures,
            valid_loss=valid_loss,
            error_rate=error_rate,
            seconds=time.monotonic() - started,
        )
        state.end_epoch(point)
        run.tracker.log_epoch(point)
        if len(state.epochs) % run.spec.checkpoint_every == 0 or state.epoch == now.stage.epochs:
            _save(run, now)


def _train(run: Run, now: _Learning, started: float) -> None:
    """Train what is left of the running epoch."""
    state = now.state
    rows, labels = labelled(run.items, "train")
    lesson = Lesson(run.spec.recipe, now.stage, run.presized, rows, labels, run.spec.seed)
    place = Place(state.epoch, len(state.epochs), state.batch, len(state.steps))
    for step in train_epoch(now.model, now.optimiser, lesson=lesson, place=place):
        state.end_step(step.point, pictures=step.pictures, seconds=time.monotonic() - started)
        run.tracker.log_step(step.point)
        run.mailbox.progress(now.stage.name, step.done, step.total, numbers=_numbers(state))
        _leave_if_asked(run, now)


def _validate(run: Run, now: _Learning) -> tuple[float, float]:
    """Return mean loss and error rate of the valid images, in fp32 as a server sees them."""
    rows, labels = labelled(run.items, "valid")
    try:
        answers = logits(
            now.model,
            run.evaluation,
            rows,
            device=run.device,
            preprocess=run.spec.recipe.preprocess,
            batch_size=run.spec.recipe.batch_size,
            report=lambda *_: _leave_if_asked(run, now),
        )
    except NonFiniteError as error:
        raise not_finite(now.stage, step=len(now.state.steps), what=str(error)) from error
    losses = -log_softmax(answers)[np.arange(len(labels)), labels]
    return float(losses.mean()), float((answers.argmax(axis=1) != labels).mean())


def _leave_if_asked(run: Run, now: _Learning) -> None:
    if run.interruption.requested:
        _save(run, now)
        raise InterruptedRunError(f"asked to leave after step {len(now.state.steps)}")


def _save(run: Run, now: _Learning) -> None:
    run.checkpoints.save(now.model, now.optimiser, now.state)
    run.tracker.flush()


def _numbers(state: FitState) -> dict[str, float]:
    """Name the newest figures for the progress."""
    numbers = {"epoch": float(len(state.epochs) + 1), "train_loss": state.steps[-1].loss}
    if state.epochs:
        last = state.epochs[-1]
        numbers |= {"valid_loss": last.valid_loss, "error_rate": last.error_rate}
    return numbers
