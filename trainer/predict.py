"""What the report is made of: every image predicted, plain, augmented, and out of fold."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bearloop.contract.recipes import CacheStage, EvaluateStage, Recipe
from bearloop.contract.runs import RunSpec
from trainer.errors import InputError
from trainer.evaluate import features, logits, softmax, tta_probabilities
from trainer.fit import fit_rows, fit_stages
from trainer.model import Classifier, build_classifier
from trainer.out_of_fold import Judge, head_judge, out_of_fold
from trainer.report import Predictions
from trainer.run import Run

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
    return caches[0], evaluations[0]


def new_model(
    spec: RunSpec, device: torch.device, *, weights: dict[str, Tensor] | None
) -> Classifier:
    """Build the model as it is before the run: equal for equal weights and seed."""
    torch.manual_seed(spec.seed)
    model = build_classifier(spec.recipe, len(spec.classes), weights)
    return model.to(device).to(memory_format=torch.channels_last)


def predict(run: Run, model: Classifier, *, weights: dict[str, Tensor] | None) -> Predictions:
    """Predict every image of the version, whatever its split.

    `weights` are what the body began as, None for random: labels are judged by what it knew then.
    """
    rows = np.arange(len(run.items))
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
    plain = softmax(answers)
    views = None
    if stage.tta_views:
        views = tta_probabilities(
            model,
            run.presized,
            rows,
            plain=plain,
            changes=recipe.augment,
            stage=stage,
            seed=run.spec.seed,
            device=run.device,
            preprocess=recipe.preprocess,
            batch_size=recipe.batch_size,
            report=run.mailbox.counter("evaluate-augmented"),
        )
    unseen = out_of_fold(
        run.items,
        _judge(run, weights),
        classes=len(run.spec.classes),
        folds=stage.folds,
        own=plain.astype(np.float32) if weights is None else None,
        report=run.mailbox.counter("judge-labels"),
    )
    return Predictions(
        items=run.items,
        classes=run.spec.classes,
        logits=answers,
        tta=views,
        out_of_fold=unseen,
    )


def _judge(run: Run, weights: dict[str, Tensor] | None) -> Judge:
    """Heads over the body as it was before the run; whole models where that knew nothing."""
    if weights is None:
        return _whole_judge(run)
    before = features(
        new_model(run.spec, run.device, weights=weights),
        run.evaluation,
        np.arange(len(run.items)),
        device=run.device,
        preprocess=run.spec.recipe.preprocess,
        batch_size=run.spec.recipe.batch_size,
        report=run.mailbox.counter("features"),
    )
    labels = [item.label for item in run.items]
    return head_judge(before, labels, classes=len(run.spec.classes), device=run.device)


def _whole_judge(run: Run) -> Judge:
    labels = np.array([-1 if item.label is None else item.label for item in run.items])

    def judge(taught: Rows, judged: Rows) -> NDArray[np.floating]:
        model = new_model(run.spec, run.device, weights=None)
        fit_rows(
            model,
            recipe=run.spec.recipe,
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
