"""Opens a small run over a folder store, ready to fit."""

from pathlib import Path
from typing import Final

import torch

from bearloop.contract.recipes import CacheStage
from bearloop.contract.runs import RunSpec
from bearloop.store import Store
from trainer.cache import open_pixels
from trainer.checkpoint import Checkpoints
from trainer.data import load_items
from trainer.device import make_deterministic
from trainer.interruption import Interruption
from trainer.mailbox import Mailbox
from trainer.model import Classifier
from trainer.predict import new_model
from trainer.ranks import Ranks, alone
from trainer.run import Run
from trainer.settings import ask_for_determinism
from trainer.tracking import Tracker
from trainer.weights import load_weights

CPU: Final = torch.device("cpu")


def open_run(
    store: Store,
    spec: RunSpec,
    *,
    folder: Path,
    interruption: Interruption | None = None,
    ranks: Ranks | None = None,
) -> Run:
    """Decode the version's pictures into `folder` and return the run."""
    ask_for_determinism()
    make_deterministic()
    items = load_items(store, spec)
    presize = next(s.presize for s in spec.recipe.stages if isinstance(s, CacheStage))
    presized, evaluation = open_pixels(
        store,
        items,
        evaluation=spec.recipe.preprocess,
        presize=presize,
        folder=folder,
        report=lambda *_: None,
        sizes=spec.recipe.sizes(),
    )
    return Run(
        spec=spec,
        items=items,
        presized=presized,
        evaluation=evaluation,
        ranks=ranks or alone(CPU),
        mailbox=Mailbox(store, job=spec.job, attempt="first"),
        checkpoints=Checkpoints(store, spec),
        tracker=Tracker(spec),
        interruption=interruption or Interruption(),
    )


def model_of(run: Run) -> Classifier:
    """The model as it is before the run."""
    return new_model(run.spec, run.device, weights=load_weights(run.spec.recipe))
