"""A batch that does not fit into the device's memory is halved, and the same step taken again.

The gradient is then summed over the parts, so that rate and step stay those of the whole batch;
only BatchNorm takes its statistics over each part.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from trainer.errors import InputError, InterruptedRunError

LEAST_PART: Final = 2
"""Pictures: BatchNorm needs the variance of some."""
log = logging.getLogger(__name__)

_Statistics = list[tuple[list[Tensor], Tensor]]
"""Buffers of one type, and their values in one piece: on a GPU each copy is a launch."""


class HalvedTogetherError(InterruptedRunError):
    """One of several processes ran out of memory: all go on from here with smaller parts.

    The others stand in the middle of a step that cannot be finished, so all begin anew.
    """


class Memory:
    """How often this run's batches are halved; what was halved stays so."""

    def __init__(
        self,
        halvings: int = 0,
        *,
        say: Callable[[int, str], None] = lambda _, text: log.warning("%s", text),
        together: bool = False,
    ) -> None:
        """Begin with the halvings of a checkpoint; `say` is told (step, sentence) of each more."""
        self.halvings = halvings
        self._say = say
        self._together = together

    def parts(self, pictures: int, *, batch: int) -> int:
        """Return in how many parts a process takes so many pictures of a step.

        `batch` is how many of a batch are its own: so many at a time, or what halving left of them.
        """
        asked = math.ceil((pictures << self.halvings) / batch)
        return max(1, min(asked, pictures // LEAST_PART))

    def within(
        self,
        model: nn.Module,
        take: Callable[[int], float],
        *,
        pictures: int,
        batch: int,
        step: int,
    ) -> float:
        """Let `take` compute a gradient in so many parts as fit; returns what it returns.

        `pictures` are the least that any process has, of `batch` a process. Raises InputError where
        not even the smallest parts fit.
        """
        before = _statistics(model)
        while True:
            parts = self.parts(pictures, batch=batch)
            try:
                return take(parts)
            except torch.OutOfMemoryError as error:
                said = str(error)
            # Outside the handler, where the failed step's tensors are not held any more.
            _restore(before)
            model.zero_grad(set_to_none=True)
            self._halve(pictures, batch=batch, step=step, said=said)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @contextmanager
    def for_the_optimiser(self, *, step: int) -> Iterator[None]:
        """Let the weights be changed: no picture is on the device any more, and nothing to halve.

        Raises InputError where the optimiser's state does not fit, which its first step makes.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise _no_room(
                "the model and what its optimiser keeps of it do not fit",
                at=f"step {step}",
                way_out="take a smaller model, train fewer of its layers (frozen_to), or a GPU "
                "with more memory",
            ) from error

    def _halve(self, pictures: int, *, batch: int, step: int, said: str) -> None:
        log.warning("out of memory at step %d: %s", step, said)
        parts = self.parts(pictures, batch=batch)
        if parts >= pictures // LEAST_PART:
            raise too_large(-(-pictures // parts), at=f"step {step}")
        # Of a step with fewer pictures than a batch, half a batch may be as many.
        while (more := self.parts(pictures, batch=batch)) == parts:
            self.halvings += 1
        self._say(
            step,
            f"out of memory at step {step} with {-(-pictures // parts)} pictures at a time: each "
            f"batch is computed in {more} parts from here on, for the same step",
        )
        if self._together:
            raise HalvedTogetherError("the device's memory was too small for a batch")


def too_large(pictures: int, *, at: str = "evaluation") -> InputError:
    """Return the error of a run whose model is too large for the device."""
    what = "one picture fits" if pictures == 1 else f"{pictures} pictures at a time fit"
    return _no_room(
        f"not even {what}",
        at=at,
        way_out="take smaller pictures (size), a smaller model, precision bf16 or fp16, or a GPU "
        "with more memory",
    )


def _no_room(what: str, *, at: str, way_out: str) -> InputError:
    return InputError(
        "out_of_memory",
        f"{what} into the device's memory ({at})",
        field="recipe.model",
        way_out=way_out,
    )


def _statistics(model: nn.Module) -> _Statistics:
    """Copy what a forward pass changes, BatchNorm's statistics."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        kinds.setdefault(buffer.dtype, []).append(buffer)
    return [(kind, torch.cat([b.reshape(-1) for b in kind])) for kind in kinds.values()]


def _restore(before: _Statistics) -> None:
    for buffers, copy in before:
        for buffer, values in zip(
            buffers, torch.split(copy, [b.numel() for b in buffers]), strict=True
        ):
            buffer.copy_(values.view_as(buffer))
