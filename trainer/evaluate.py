"""Predictions of a trained model, in fp32 on the pixels that a server sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import Augment, EvaluateStage
from bearloop.intervals import of_mean
from bearloop.transforms import draw_changes
from trainer.augment import apply_changes
from trainer.cache import EvaluationPixels, PresizedPixels
from trainer.model import Classifier
from trainer.parts import Parts, Pictures
from trainer.scratch import Room, in_memory

Shown = Callable[[NDArray[np.int64]], Pictures]
"""Told rows, answers what makes those of a place: normalised, float32 [m, 3, size, size]."""
Report = Callable[[int, int], None]
"""Told (pictures done, pictures in all)."""
Rows = Sequence[int] | NDArray[np.integer]


class NonFiniteError(Exception):
    """The model answers NaN or infinity for a picture: its weights are broken."""


class MeanLoss(NamedTuple):
    """A mean of pictures' losses with its 95 % interval."""

    value: float
    low: float | None
    """None, as the other end: a single picture, or a loss that is not finite."""
    high: float | None


def logits(
    model: nn.Module,
    pixels: EvaluationPixels,
    indices: Rows,
    *,
    device: torch.device,
    preprocess: Preprocess,
    batch_size: int,
    report: Report | None = None,
    parts: Parts | None = None,
) -> NDArray[np.float32]:
    """Return what the model answers to the plain pictures, float32 [n, classes].

    Of a batch as many pictures at a time as fit by what `parts` knows; raises InputError.
    """
    return _over_batches(
        model,
        indices,
        answer=model,
        view=shown_plain(pixels, preprocess, device=device),
        batch_size=batch_size,
        report=report,
        parts=parts,
    )


def features(
    model: Classifier,
    pixels: EvaluationPixels,
    indices: Rows,
    *,
    device: torch.device,
    preprocess: Preprocess,
    batch_size: int,
    report: Report | None = None,
    room: Room = in_memory,
    parts: Parts | None = None,
) -> NDArray[np.float32]:
    """Return the pooled activations of the body, float32 [n, features], where `room` has place."""
    return _over_batches(
        model,
        indices,
        answer=model.features,
        view=shown_plain(pixels, preprocess, device=device),
        batch_size=batch_size,
        report=report,
        room=room,
        parts=parts,
    )


def tta_probabilities(
    model: nn.Module,
    presized: PresizedPixels,
    indices: Rows,
    *,
    plain: NDArray[np.floating],
    changes: Augment,
    stage: EvaluateStage,
    seed: int,
    device: torch.device,
    preprocess: Preprocess,
    batch_size: int,
    report: Report | None = None,
    parts: Parts | None = None,
) -> NDArray[np.float32]:
    """Average `plain` probabilities [n, classes] with those of `stage.tta_views` augmented views.

    The lesson's `TTA`: the views share 1 - `stage.tta_plain_weight` evenly.
    """
    rows, parts = np.asarray(indices, dtype=np.int64), parts or Parts("evaluation")
    total = np.zeros(plain.shape, dtype=np.float64)
    for view in range(stage.tta_views):
        random = np.random.default_rng(seed + view)
        answers = _over_batches(
            model,
            rows,
            answer=model,
            view=shown_changed(
                presized, changes, preprocess=preprocess, random=random, device=device
            ),
            batch_size=batch_size,
            report=_shifted(report, done=view * len(rows), total=stage.tta_views * len(rows)),
            parts=parts,
        )
        total += softmax(answers)
    weight = stage.tta_plain_weight
    return np.asarray(weight * plain + (1 - weight) * total / stage.tta_views, dtype=np.float32)


def softmax(answers: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities of logits [n, classes], in float64."""
    return np.exp(log_softmax(answers))


def log_softmax(answers: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ln p of logits [n, classes] in float64, exact where p rounds to 0 or 1."""
    shifted = answers.astype(np.float64) - answers.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def mean_loss(losses: NDArray[np.floating]) -> MeanLoss:
    """Return the mean of pictures' losses [n], n at least 1, as sure as their spread lets it be."""
    exact = losses.astype(np.float64)
    mean = float(exact.mean())
    if len(exact) < 2 or not np.isfinite(mean):
        return MeanLoss(mean, None, None)
    low, high = of_mean(mean, deviation=float(exact.std(ddof=1)), n=len(exact))
    return MeanLoss(mean, low, high)


def normalised(
    pixels: NDArray[np.uint8], preprocess: Preprocess, *, device: torch.device
) -> Tensor:
    """Do what `bearloop.preprocess.normalise` does, to the bit, where the model is.

    uint8 [n, size, size, 3] -> float32 [n, 3, size, size]; the bytes travel, not the floats.
    """
    mean = np.asarray(preprocess.mean, dtype=np.float32) * 255
    scale = 1 / (np.asarray(preprocess.std, dtype=np.float32) * 255)
    moved = torch.from_numpy(pixels).to(device).to(torch.float32)
    scaled = (moved - torch.from_numpy(mean).to(device)) * torch.from_numpy(scale).to(device)
    return scaled.permute(0, 3, 1, 2).contiguous()


def shown_plain(pixels: EvaluationPixels, preprocess: Preprocess, *, device: torch.device) -> Shown:
    """Show pictures as a server sees them."""

    def view(rows: NDArray[np.int64]) -> Pictures:
        own = pixels.gather(rows)
        return lambda place: normalised(own[place], preprocess, device=device)

    return view


def shown_changed(
    presized: PresizedPixels,
    changes: Augment,
    *,
    preprocess: Preprocess,
    random: np.random.Generator,
    device: torch.device,
) -> Shown:
    """Show pictures changed at random, which is drawn for all rows that are told at once."""

    def view(rows: NDArray[np.int64]) -> Pictures:
        own, drawn = presized.gather(rows), draw_changes(len(rows), changes, random=random)

        def made(place: slice) -> Tensor:
            pixels = torch.from_numpy(own[place]).to(device)
            return apply_changes(pixels, drawn.of(place), changes, preprocess=preprocess)

        return made

    return view


def finite(answers: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the answers [n, …] to some rows; raises NonFiniteError where they are no numbers."""
    broken = ~np.isfinite(answers).all(axis=1)
    if broken.any():
        raise NonFiniteError(f"the model's answer to image {rows[broken][0]} is not finite")
    return answers


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Keep fp32 fp32: cuDNN would round to TF32, and choose its algorithms by a race."""
    with (
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
        torch.inference_mode(),
    ):
        yield


def _over_batches(
    model: nn.Module,
    indices: Rows,
    *,
    answer: Callable[[Tensor], Tensor],
    view: Shown,
    batch_size: int,
    report: Report | None,
    room: Room = in_memory,
    parts: Parts | None = None,
) -> NDArray[np.float32]:
    rows, parts = np.asarray(indices, dtype=np.int64), parts or Parts("evaluation")
    was_training = model.training
    model.eval()
    answers: NDArray[np.float32] | None = None
    with exact_arithmetic():
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            told = parts.answer(answer, view(batch), count=len(batch))
            found = finite(told.cpu().numpy(), batch)
            answers = room((len(rows), *found.shape[1:])) if answers is None else answers
            answers[start : start + len(batch)] = found
            if report is not None:
                report(start + len(batch), len(rows))
    model.train(was_training)
    assert answers is not None  # nobody asks for no pictures
    return answers


def _shifted(report: Report | None, *, done: int, total: int) -> Report | None:
    if report is None:
        return None
    return lambda here, _: report(done + here, total)
