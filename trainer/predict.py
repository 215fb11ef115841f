"""What the report is made of: every image predicted, plain, augmented, and out of fold."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bearloop.contract.recipes import CacheStage, EvaluateStage, Recipe
from bearloop.contract.runs import NO_CURVES, Curves, RunSpec
from trainer.errors import InputError
from trainer.evaluate import features, logits, softmax, tta_probabilities
from trainer.fit import fit_rows, fit_stages
from trainer.heads import head_judge
from trainer.model import Classifier, build_classifier
from trainer.order import step_seed
from trainer.out_of_fold import Judge, out_of_fold
from trainer.report import Predictions
from trainer.run import Run
from trainer.scratch import scratch_array

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
    if lacking is not None:
        raise InputError(
            "recipe_not_whole",
            f"no lr-find stage stands before {lacking.name!r}, whose lr is auto",
            field="recipe.stages.lr",
            value="auto",
            way_out="put an lr-find stage before it, or give a number",
        )
    stops = recipe.stopped_by_nothing()
    if stops is not None:
        raise InputError(
            "recipe_not_whole",
            f"the stage {stops.name!r} stops early, and nothing is held out to stop by",
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
) -> Predictions:
    """Predict every image of the version, whatever its split.

    `weights` are what the body began as, None for random: labels are judged by what it knew then.
    `curves` are the run's, whose rates and epochs other models are trained with.
    """
    rows = run.ranks.share(np.arange(len(run.items)))
    recipe, (_, stage) = run.spec.recipe, check_stages(run.spec.recipe)
    answers = logits(
        model,
        run.evaluation,
        rows,
        device=run.device,
        preprocess=recipe.preprocess,
        batch_size=recipe.batch_size,
        report=run.mailbox.counter("evaluate"),
    )
    plain, views = softmax(answers), None
    if stage.tta_views:
        views = tta_probabilities(
            model,
            run.presized,
            rows,
            plain=plain,
            changes=recipe.augment,
            stage=stage,
            # Each process draws for its own pictures.
            seed=run.spec.seed if run.ranks.leads else step_seed(run.spec.seed, run.ranks.number),
            device=run.device,
            preprocess=recipe.preprocess,
            batch_size=recipe.batch_size,
            report=run.mailbox.counter("evaluate-augmented"),
        )
        views = run.ranks.gathered(views)
    answers = run.ranks.gathered(answers)
    # Where the run learnt from the test labels too, it is no judge of them.
    unbiased = weights is None and recipe.train_on == "train"
    unseen = out_of_fold(
        run.items,
        _judge(run, weights, curves),
        classes=len(run.spec.classes),
        folds=stage.folds,
        own=softmax(answers).astype(np.float32) if unbiased else None,
        turns=(run.ranks.number, run.ranks.count),
        report=run.mailbox.counter("judge-labels"),
    )
    return Predictions(
        items=run.items,
        classes=run.spec.classes,
        logits=answers,
        tta=views,
        train_on=recipe.train_on,
        out_of_fold=run.ranks.joined(unseen),
    )


def _judge(run: Run, weights: dict[str, Tensor] | None, curves: Curves) -> Judge:
    """Heads over the body as it was before the run; whole models where that knew nothing."""
    if weights is None:
        return _whole_judge(run, curves)
    own = features(
        new_model(run.spec, run.device, weights=weights),
        run.evaluation,
        run.ranks.share(np.arange(len(run.items))),
        device=run.device,
        preprocess=run.spec.recipe.preprocess,
        batch_size=run.spec.recipe.batch_size,
        report=run.mailbox.counter("features"),
        room=scratch_array,
    )
    before = run.ranks.gathered(own)
    labels = [item.label for item in run.items]
    return head_judge(before, labels, classes=len(run.spec.classes), device=run.device)


def _whole_judge(run: Run, curves: Curves) -> Judge:
    labels = np.array([-1 if item.label is None else item.label for item in run.items])

    def judge(taught: Rows, judged: Rows) -> NDArray[np.floating]:
        model = new_model(run.spec, run.device, weights=None)
        fit_rows(
            model,
            recipe=run.spec.recipe,
            curves=curves,
            presized=run.presized,
            rows=taught,
            labels=labels[taught],
            seed=run.spec.seed,
        )
        answers = logits(
            model,
            run.evaluation,
            judged,
            device=run.device,
            preprocess=run.spec.recipe.preprocess,
            batch_size=run.spec.recipe.batch_size,
        )
        return softmax(answers)

    return judge
