"""Checkpoints: all that a run needs to go on, as one safetensors object; never pickle."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from bearloop.contract.jobs import checkpoint_prefix
from bearloop.contract.runs import Curves, EpochPoint, LrFind, RunSpec, StepPoint
from bearloop.store import Store
from trainer.model import Classifier
from trainer.optimiser import optimiser_tensors

KEPT: Final = 2
"""The newest, and the one before in case the newest is damaged."""
SUFFIX: Final = ".safetensors"
log = logging.getLogger(__name__)


class FitState(BaseModel):
    """How far the fit stages are, and the curves so far.

    No generator's state is in it: order, augmentation and dropout are drawn anew from
    (seed, epoch) and (seed, step).
    """

    stage: int = 0
    """Place among the recipe's fit stages."""
    epoch: int = 0
    """Epochs of this stage that are trained and validated."""
    batch: int = 0
    """Batches of the running epoch that are trained."""
    loss_sum: float = 0.0
    """Of the running epoch's pictures."""
    pictures: int = 0
    """Trained in the running epoch."""
    seconds: float = 0.0
    """Spent on the running epoch, over all attempts."""
    trained: int = 0
    """Pictures of all epochs that ended; each counts as often as it was trained on."""
    train_seconds: float = 0.0
    """Spent on them, over all attempts; validation is not in it."""
    steps: list[StepPoint] = []
    epochs: list[EpochPoint] = []
    lr_finds: list[LrFind] = []
    """Of this stage and those before."""
    halvings: int = 0
    """How often batches were halved, to fit into the device's memory."""
    scale: dict[str, float] = {}
    """Of the loss, in fp16."""
    kept: dict[str, int] = {}
    """Number of the epoch whose weights a stage ended with, by stage that might stop early."""
    seconds_beside: dict[str, float] = {}
    """What was spent beside the epochs, by what for: a body's pass, the search of a rate."""
    notes: list[str] = []
    """What happened beside the plan, in sentences."""

    def end_step(self, point: StepPoint, *, pictures: int, seconds: float) -> None:
        """Note one trained batch; `seconds` is the epoch's time so far."""
        self.steps.append(point)
        self.batch += 1
        self.loss_sum += point.loss * pictures
        self.pictures += pictures
        self.seconds = seconds

    def end_epoch(self, point: EpochPoint) -> None:
        """Note one epoch and stand before the next."""
        self.epochs.append(point)
        self.epoch += 1
        self.trained += self.pictures
        self.train_seconds += self.seconds
        self.batch, self.loss_sum, self.pictures, self.seconds = 0, 0.0, 0, 0.0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add what happens inside to the seconds beside the epochs."""
        began = time.monotonic()
        yield
        spent = self.seconds_beside.get(what, 0.0)
        self.seconds_beside[what] = spent + time.monotonic() - began

    def curves(self) -> Curves:
        """Return what the recorder shows so far."""
        return Curves(
            epochs=tuple(self.epochs),
            steps=tuple(self.steps),
            lr_finds=tuple(self.lr_finds),
            kept=self.kept,
            notes=tuple(self.notes),
        )


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment; tensors are on the CPU."""

    state: FitState
    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    best: dict[str, Tensor]
    """The model of the running stage's best epoch, where it may stop early; else empty."""


class Checkpoints:
    """The checkpoints of one job, which every attempt of it shares."""

    def __init__(self, store: Store, spec: RunSpec) -> None:
        """Stand for the checkpoints of one specification."""
        self._store = store
        self._prefix = checkpoint_prefix(spec.job)
        self._spec = spec.digest()
        self._every = spec.checkpoint_every.total_seconds()
        self._saved = time.monotonic()

    def save(
        self,
        model: Classifier,
        optimiser: torch.optim.AdamW | None,
        state: FitState,
        *,
        best: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write one object whole, then remove all but the newest two.

        Between two stages there is no optimiser.
        """
        steps = {} if optimiser is None else optimiser_tensors(optimiser, model)
        tensors = {
            **{f"model/{key}": value for key, value in model.state_dict().items()},
            **{f"optimiser/{key}": value for key, value in steps.items()},
            **{f"best/{key}": value for key, value in (best or {}).items()},
        }
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        # As a tensor: safetensors' header is limited, and curves grow with every step.
        text = bytearray(_Saved(spec=self._spec, state=state).model_dump_json().encode())
        plain["saved"] = torch.frombuffer(text, dtype=torch.uint8)
        key = f"{self._prefix}{len(state.steps):09d}{SUFFIX}"
        self._store.put(key, safetensors.torch.save(plain))
        for key in self._keys()[:-KEPT]:
            self._store.delete(key)
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether this attempt saved nothing for as long as the run says."""
        return time.monotonic() - self._saved >= self._every

    def newest(self) -> Checkpoint | None:
        """Return the newest one that is whole and of this specification."""
        for key in reversed(self._keys()):
            checkpoint = self._read(key)
            if checkpoint is not None:
                return checkpoint
        return None

    def clear(self) -> None:
        """Remove them all, with snapshots and kept answers below them: the run is done."""
        self._store.clear(self._prefix)

    def _keys(self) -> list[str]:
        keys = [info.key for info in self._store.list(self._prefix)]
        return [key for key in keys if "/" not in key.removeprefix(self._prefix)]

    def _read(self, key: str) -> Checkpoint | None:
        data = self._store.get(key)
        try:
            tensors = safetensors.torch.load(data)
            saved = _Saved.model_validate_json(tensors.pop("saved").numpy().tobytes())
        except (safetensors.SafetensorError, ValidationError, KeyError) as error:
            log.warning("checkpoint %s is damaged and passed over: %s", key, error)
            return None
        if saved.spec != self._spec:
            log.warning("checkpoint %s is of another specification and passed over", key)
            return None
        parts = (_below(tensors, f"{part}/") for part in ("model", "optimiser", "best"))
        return Checkpoint(saved.state, *parts)


class _Saved(BaseModel):
    """The state, and the digest of the specification that it belongs to."""

    spec: str
    state: FitState


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
