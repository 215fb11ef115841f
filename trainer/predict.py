"""What the report is made of: every image predicted, plain, augmented, and out of fold."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bearloop.contract.recipes import CacheStage, EvaluateStage, Recipe
from bearloop.contract.runs import NO_CURVES, Curves, RunSpec
from trainer.errors import InputError
from trainer.evaluate import NonFiniteError, features, logits, softmax, tta_probabilities
from trainer.fit import fit_rows, fit_stages
from trainer.heads import head_judge
from trainer.kept_answers import KeptAnswers
from trainer.model import Classifier, build_classifier
from trainer.order import step_seed
from trainer.out_of_fold import Judge, Part, dealt, out_of_fold
from trainer.outcome import leave_curves
from trainer.parts import say_what_others_halved
from trainer.report import Predictions
from trainer.run import Run
from trainer.scratch import scratch_array
from trainer.step import not_finite

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


def check_stages(recipe: Recipe) -> tuple[CacheStage, EvaluateStage]:
    """Return the recipe's cache and evaluate stages; raises InputError unless it is whole."""
    caches = [stage for stage in recipe.stages if isinstance(stage, CacheStage)]
    evaluations = [stage for stage in recipe.stages if isinstance(stage, EvaluateStage)]
    if len(caches) != 1 or len(evaluations) != 1 or not fit_stages(recipe):
        raise InputError(
            "recipe_not_whole",
            f"recipe {recipe.name!r} has {len(caches)} cache, {len(fit_stages(recipe))} fit and "
            f"{len(evaluations)} evaluate stages",
            field="recipe.stages",
            value=", ".join(stage.kind for stage in recipe.stages),
            way_out="give one cache stage, one fit stage or more, and one evaluate stage",
        )
    lacking = recipe.without_rate()
    if lacking:
        raise InputError(
            "recipe_not_whole",
            f"no lr-find stage stands before {lacking[0].name!r}, whose lr is auto",
            field="recipe.stages.lr",
            value="auto",
            way_out="put an lr-find stage before it, or give a number",
        )
    stops = recipe.stopped_by_nothing()
    if stops:
        raise InputError(
            "recipe_not_whole",
            f"the stage {stops[0].name!r} stops early, and nothing is held out to stop by",
            field="recipe.train_on",
            value=recipe.train_on,
            way_out="leave early_stopping out, or train on the train split",
        )
    return caches[0], evaluations[0]


def new_model(
    spec: RunSpec, device: torch.device, *, weights: dict[str, Tensor] | None
) -> Classifier:
    """Build the model as it is before the run: equal for equal weights and seed."""
    torch.manual_seed(spec.seed)
    model = build_classifier(spec.recipe, len(spec.classes), weights)
    return model.to(device).to(memory_format=torch.channels_last)


def predict(
    run: Run,
    model: nn.Module,
    *,
    weights: dict[str, Tensor] | None,
    curves: Curves = NO_CURVES,
    halvings: int = 0,
    say: Callable[[str], None] = log.warning,
) -> Predictions:
    """Predict every image of the version, whatever its split.

    `weights` are what the body began as, None for random: labels are judged by what it knew then.
    `curves` are the run's, whose rates and epochs other models are trained with, and `halvings` how
    often it halved its batches for want of memory. `say` is told what happened beside the plan, by
    every process. What an attempt before has answered is read. Raises InputError where the model is
    broken.
    """
    stage = check_stages(run.spec.recipe)[1]
    kept = KeptAnswers(run, model, halvings=halvings, say=say)
    with _told_when_broken(run, curves):
        answers, views = _answers(run, model, stage, kept=kept)
    # Where the run learnt from the test labels too, it is no judge of them.
    unbiased = weights is None and run.spec.recipe.train_on == "train"
    turns = (run.ranks.number, run.ranks.count)
    todo = dealt(run.items, folds=stage.folds, tests=not unbiased, turns=turns)
    unseen = out_of_fold(
        run.items,
        _judge(run, weights, curves, todo=todo, kept=kept),
        classes=len(run.spec.classes),
        folds=stage.folds,
        own=softmax(answers).astype(np.float32) if unbiased else None,
        turns=turns,
        report=run.mailbox.counter("judge-labels"),
    )
    _say_what_was_lost(run, kept.lost, say)
    say_what_others_halved(run.ranks, [kept.parts])
    return Predictions(
        items=run.items,
        classes=run.spec.classes,
        logits=answers,
        tta=views,
        train_on=run.spec.recipe.train_on,
        out_of_fold=run.ranks.joined(unseen),
    )


@contextmanager
def _told_when_broken(run: Run, curves: Curves) -> Iterator[None]:
    """Name the stage whose last step broke the weights, where nothing was validated behind it."""
    try:
        yield
    except NonFiniteError as error:
        leave_curves(run, curves)
        last = fit_stages(run.spec.recipe, curves.lr_finds)[-1]
        raise not_finite(last, step=len(curves.steps), what=str(error)) from error


def _answers(
    run: Run, model: nn.Module, stage: EvaluateStage, *, kept: KeptAnswers
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return every image's logits, and its probabilities over augmented views where asked for."""
    rows, recipe = run.ranks.share(np.arange(len(run.items))), run.spec.recipe
    # Of so many processes another number takes other shares.
    share = f"{run.ranks.number + 1}-of-{run.ranks.count}"
    answers = kept.once(
        f"plain-{share}",
        lambda: logits(
            model,
            run.evaluation,
            rows,
            device=run.device,
            preprocess=recipe.preprocess,
            batch_size=recipe.batch_size,
            report=run.mailbox.counter("evaluate"),
            parts=kept.parts,
        ),
    )
    if not stage.tta_views:
        return run.ranks.gathered(answers), None
    views = kept.once(
        f"augmented-{share}",
        lambda: tta_probabilities(
            model,
            run.presized,
            rows,
            plain=softmax(answers),
            changes=recipe.augment,
            stage=stage,
            # Each process draws for its own pictures.
            seed=run.spec.seed if run.ranks.leads else step_seed(run.spec.seed, run.ranks.number),
            device=run.device,
            preprocess=recipe.preprocess,
            batch_size=recipe.batch_size,
            report=run.mailbox.counter("evaluate-augmented"),
            parts=kept.parts,
        ),
    )
    return run.ranks.gathered(answers), run.ranks.gathered(views)


def _judge(
    run: Run,
    weights: dict[str, Tensor] | None,
    curves: Curves,
    *,
    todo: Sequence[Part],
    kept: KeptAnswers,
) -> Judge:
    """Heads over the body as it was before the run; whole models where that knew nothing.

    What was judged before is read, whichever process judged it.
    """
    if weights is None:
        judge = _whole_judge(run, curves, kept=kept)
    # The body's pass is shared by all: they agree whether any needs it.
    elif run.ranks.any(not all(kept.has(_name(part.judged)) for part in todo)):
        judge = _head_judge(run, weights, kept=kept)
    else:
        judge = _no_judge
    return lambda taught, judged: kept.once(_name(judged), lambda: judge(taught, judged))


def _name(judged: Rows) -> str:
    """Name what judges some images by their first: no other one judges it."""
    return f"judged-{judged[0]}"


def _no_judge(_taught: Rows, judged: Rows) -> NDArray[np.floating]:
    raise AssertionError(f"{_name(judged)} was found, and then not")


def _head_judge(run: Run, weights: dict[str, Tensor], *, kept: KeptAnswers) -> Judge:
    own = features(
        new_model(run.spec, run.device, weights=weights),
        run.evaluation,
        run.ranks.share(np.arange(len(run.items))),
        device=run.device,
        preprocess=run.spec.recipe.preprocess,
        batch_size=run.spec.recipe.batch_size,
        report=run.mailbox.counter("features"),
        room=scratch_array,
        parts=kept.parts,
    )
    before = run.ranks.gathered(own, room=scratch_array)
    labels = [item.label for item in run.items]
    return head_judge(before, labels, classes=len(run.spec.classes), device=run.device)


def _whole_judge(run: Run, curves: Curves, *, kept: KeptAnswers) -> Judge:
    """Train as the run did; pictures that a model which diverged leaves unjudged are lost.

    What one of the models halves stays so for the next.
    """
    labels = np.array([-1 if item.label is None else item.label for item in run.items])

    def judge(taught: Rows, judged: Rows) -> NDArray[np.floating]:
        model = new_model(run.spec, run.device, weights=None)
        try:
            fit_rows(
                model,
                recipe=run.spec.recipe,
                curves=curves,
                presized=run.presized,
                rows=taught,
                labels=labels[taught],
                seed=run.spec.seed,
                memory=kept.memory,
            )
            answers = logits(
                model,
                run.evaluation,
                judged,
                device=run.device,
                preprocess=run.spec.recipe.preprocess,
                batch_size=run.spec.recipe.batch_size,
                parts=kept.parts,
            )
        except (InputError, NonFiniteError) as error:
            if isinstance(error, InputError) and error.problem.code != "loss_not_finite":
                raise
            log.warning("a model that judges %d labels diverged: %s", len(judged), error)
            kept.lose(len(judged))
            classes = len(run.spec.classes)
            return np.full((len(judged), classes), 1 / classes)
        return softmax(answers)

    return judge


def _say_what_was_lost(run: Run, lost: int, say: Callable[[str], None]) -> None:
    # Each process knows of its own judges only.
    pictures = int(run.ranks.gathered(np.asarray([lost], dtype=np.float32)).sum())
    if pictures:
        say(
            f"{pictures} labels could not be judged: a model that was trained without them "
            "diverged, as the run did not, so their out-of-fold probability is a guess; a lower "
            "rate would let all be judged"
        )
