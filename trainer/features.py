"""Activations of a frozen body: one pass over the pictures, kept between runs as memory maps.

A folder is named by all that decides the numbers: the body's weights, the model, preprocessing,
augmentation, seed, the pictures in their order, and what decodes, draws and computes them in which
precision. The pictures belong to the name since a body's last bits depend on who shares a batch: a
run must not end with other weights because another one ran before it. Files are renamed into place
whole: one cut short is never read.
"""

import hashlib
import inspect
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

import trainer.augment
import trainer.families
import trainer.model
from bearloop import transforms
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import FeaturesStage, FitStage, Recipe
from trainer.cache import decided_by, digest_of
from trainer.data import held_out, taught
from trainer.errors import InputError
from trainer.evaluate import (
    NonFiniteError,
    Shown,
    exact_arithmetic,
    finite,
    normalised,
    shown_changed,
    shown_plain,
)
from trainer.leftovers import held, remove_leftovers
from trainer.model import Classifier
from trainer.order import Rows
from trainer.parts import Parts
from trainer.precision import Numbers, autocast, numbers_of
from trainer.room import Free, check_room, free_bytes
from trainer.run import Run
from trainer.step import Seen

FOLDER = "features"
log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Activations:
    """What the head sees of the pictures, float32 [n, features]."""

    train: tuple[Floats, ...]
    """One array for each view, in the order of the images that are learnt from."""
    valid: Floats | None
    """In the order of the labelled valid images; None where those are learnt from too."""

    def view(self, epoch: int) -> "View":
        """Return what epoch `epoch` (from 0) of a stage learns from."""
        return View(self.train[epoch % len(self.train)])


@dataclass(frozen=True)
class View:
    """One view of all training pictures, read as pixels are."""

    rows: Floats

    def gather(self, indices: Rows) -> Floats:
        """Copy some rows, [len(indices), features]."""
        return np.asarray(self.rows[indices])


def activations(
    run: Run,
    model: Classifier,
    *,
    feeding: FeaturesStage,
    stage: FitStage,
    folder: Path,
    free: Free = free_bytes,
    parts: Parts | None = None,
) -> Activations:
    """Return the body's answers to the pictures of a stage; computed where `folder` lacks them.

    A pass that is interrupted is begun anew, all but the views that it finished. Of a batch as many
    pictures at a time are on the device as fit by what `parts` knows; raises InputError.
    """
    recipe = run.spec.recipe.during(stage)
    train, apart = _rows(run)
    place = folder / FOLDER / _name(run, model, recipe=recipe, feeding=feeding)
    place.mkdir(parents=True, exist_ok=True)
    count = feeding.views
    views = [f"train-{view}" for view in range(count)]
    rows = {**dict.fromkeys(views, train), **({} if apart is None else {"valid": apart})}
    with run.ranks.first_of_node_first():
        remove_leftovers(_unfinished(folder))
        missing = [name for name in rows if not (place / f"{name}.npy").exists()]
        started, total = time.monotonic(), sum(len(rows[name]) for name in missing)
        check_room(
            place,
            total * model.feature_width * np.dtype(np.float32).itemsize,
            what=f"activations of {total} pictures",
            field="recipe.stages.views",
            value=str(count),
            way_out="take fewer views",
            free=free,
        )
        done, at_a_time = 0, parts or Parts("the body's pass")
        for name in missing:
            seen = _pictures(run, recipe, name=name, augmented=count > 1)
            # As everywhere: trained in the recipe's precision, measured in fp32.
            trained = numbers_of(recipe.precision, run.device)
            precision: Numbers = "fp32" if name == "valid" else trained
            part = _Part(place / name, rows[name], seen, precision, at_a_time)
            done = _pass(run, model, part, done=done, total=total)
        if missing:
            log.info("features of %d pictures in %.1f s", total, time.monotonic() - started)
    return Activations(
        tuple(_read(place / f"{name}.npy") for name in views),
        None if apart is None else _read(place / "valid.npy"),
    )


def made_by(feeding: FeaturesStage, *, evaluation: Preprocess, presized: Preprocess) -> list[str]:
    """Name what makes the numbers: who decodes, computes, and draws views where there are some."""
    makers = [f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"]
    makers += [*decided_by(evaluation), *decided_by(presized)]
    # Of these the code itself: a corrected one must not find what the wrong one left.
    parts: list[Any] = [trainer.model, trainer.families, normalised, exact_arithmetic, autocast]
    parts.append(sys.modules[__name__])
    if feeding.views > 1:
        makers.append(f"numpy {np.__version__}")
        parts += [transforms, trainer.augment]
    return makers + [digest_of(inspect.getsource(part)) for part in parts]


def seen_by(run: Run, known: Activations | None, *, epoch: int = 0) -> tuple[Seen, Rows, Rows]:
    """Return what a stage learns from in epoch `epoch` (from 0), its rows there, and their labels.

    Pictures where nothing is known of them yet, else one view's activations.
    """
    rows, labels = taught(run.items, run.spec.recipe)
    if known is None:
        return run.presized, rows, labels
    return known.view(epoch), np.arange(len(rows)), labels


def head_logits(model: Classifier, rows: Floats, *, device: torch.device) -> Floats:
    """Return what the head makes of activations [n, features], in fp32: [n, classes]."""
    training = model.training
    model.eval()
    with exact_arithmetic():
        answers: Floats = model.head(torch.from_numpy(np.array(rows)).to(device)).cpu().numpy()
    model.train(training)
    if not np.isfinite(answers).all():
        raise NonFiniteError("the head's answer to a valid image is not finite")
    return answers


@dataclass(frozen=True)
class _Part:
    """Pictures that become one file."""

    path: Path
    """Without its suffix."""
    rows: Rows
    seen: Callable[[int], Shown]
    """Told a batch's number, answers how its pictures are seen."""
    precision: Numbers
    at_a_time: Parts


def _rows(run: Run) -> tuple[Rows, Rows | None]:
    """Return the rows that are learnt from, and those that are held out."""
    (train, _), apart = taught(run.items, run.spec.recipe), held_out(run.items, run.spec.recipe)
    return train, None if apart is None else apart[0]


def _name(run: Run, model: Classifier, *, recipe: Recipe, feeding: FeaturesStage) -> str:
    digest = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        if not key.startswith("head."):
            digest.update(key.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    size = run.spec.recipe.batch_size
    decided = [recipe.model, recipe.pool, recipe.preprocess.canonical(), size, run.device.type]
    decided += [
        numbers_of(recipe.precision, run.device),
        *made_by(feeding, evaluation=recipe.preprocess, presized=run.presized.spec),
    ]
    if feeding.views > 1:
        decided += [recipe.augment.canonical(), run.spec.seed]
    digest.update(repr(decided).encode())
    for rows in _rows(run):
        shas = () if rows is None else (run.items[row].sha256 for row in rows)
        digest.update("".join(shas).encode() + b"|")
    return digest.hexdigest()[:32]


def _unfinished(folder: Path) -> Iterator[Path]:
    return (file for file in (folder / FOLDER).glob("*/*") if file.suffix != ".npy")


def _pictures(run: Run, recipe: Recipe, *, name: str, augmented: bool) -> Callable[[int], Shown]:
    """Return how the pictures of a file are seen: plain as a server sees them, or augmented."""
    preprocess, device = recipe.preprocess, run.device

    def plain(_: int) -> Shown:
        pixels = run.evaluation.at(preprocess.size)
        return shown_plain(pixels, preprocess, device=device)

    def changed(batch: int) -> Shown:
        view = int(name.removeprefix("train-"))
        random = np.random.default_rng([run.spec.seed, view, batch])
        return shown_changed(
            run.presized, recipe.augment, preprocess=preprocess, random=random, device=device
        )

    return changed if augmented and name != "valid" else plain


def _pass(run: Run, model: Classifier, part: _Part, *, done: int, total: int) -> int:
    """Write one file and return how many pictures are done."""
    temporary = part.path.with_name(f"{part.path.name}.{uuid.uuid4().hex}")
    shape, size = (len(part.rows), model.feature_width), run.spec.recipe.batch_size
    training = model.training
    model.eval()
    with ExitStack() as ends:
        ends.callback(model.train, training)
        ends.callback(temporary.unlink, missing_ok=True)
        ends.enter_context(held(temporary))
        written = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        for batch, start in enumerate(range(0, len(part.rows), size)):
            rows = part.rows[start : start + size]
            with exact_arithmetic(), autocast(part.precision, run.device):
                pictures = part.seen(batch)(rows)
                told = part.at_a_time.answer(model.features, pictures, count=len(rows))
                answers = told.float().cpu().numpy()
            written[start : start + len(rows)] = _finite(
                answers, rows, part=part, recipe=run.spec.recipe
            )
            run.mailbox.progress("features", done + start + len(rows), total)
        written.flush()
        temporary.replace(part.path.with_name(part.path.name + ".npy"))
    return done + len(part.rows)


def _finite(answers: Floats, rows: Rows, *, part: _Part, recipe: Recipe) -> Floats:
    """Let nothing broken be kept: no rate of the head would mend it, and later runs would find it.

    Raises InputError.
    """
    try:
        return finite(answers, rows)
    except NonFiniteError as error:
        # bf16 reaches as far as fp32: what breaks in it are the weights.
        broken = part.precision != "fp16"
        raise InputError(
            "features_not_finite",
            f"{error}, computed by the body alone in {part.precision}",
            field="recipe.weights" if broken else "recipe.precision",
            value=recipe.weights if broken else part.precision,
            way_out="the weights are broken: give others" if broken else "take bf16, or fp32",
        ) from error


def _read(path: Path) -> Floats:
    found: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
