"""What `evaluate` has answered, kept in the store: an attempt that goes on computes the rest alone.

A part is the answers to some pictures by one model: of the run's own to plain pictures and to
augmented views, and of each model that judges labels. Parts lie below the job's checkpoints, with
what their making found out beside them, and are removed with those when the run is done.
"""

import hashlib
import logging
from collections.abc import Callable

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from torch import nn

from bearloop.contract.jobs import checkpoint_prefix
from bearloop.contract.runs import RunSpec
from bearloop.store import MissingObjectError
from trainer.checkpoint import SUFFIX
from trainer.memory import Memory
from trainer.parts import NEVER, Parts, Say
from trainer.run import Run

Answer = Callable[[], NDArray[np.floating]]
"""Computes a part [n, classes]."""
log = logging.getLogger(__name__)


class Beside(BaseModel):
    """What was found out while a part was made: the next one begins with it."""

    halvings: int = 0
    """How often batches of models that judge labels were halved, with all parts before."""
    halved: tuple[int, int] = NEVER
    """What `Parts` knows behind it."""
    lost: int = 0
    """Labels of this part that could not be judged."""
    notes: list[str] = []
    """What was said, in sentences."""


class KeptAnswers:
    """One process's parts; each is computed once, whichever attempt comes to it."""

    def __init__(
        self, run: Run, model: nn.Module, *, halvings: int = 0, say: Callable[[str], None]
    ) -> None:
        """Stand for the answers of a trained model, after so many halvings of its batches.

        `say` is told what happens beside the plan, by an attempt before too.
        """
        self.memory = Memory(
            halvings, say=lambda _, told: self.note(f"while labels were judged: {told}")
        )
        self.parts = Parts("evaluation", self.note)
        self.lost = 0
        """Labels of all parts that could not be judged."""
        self._say: Say = say
        self._store = run.mailbox.store
        self._prefix = answers_prefix(run.spec, model)
        self._beside = Beside()
        self._read_before: dict[str, tuple[NDArray[np.float32], Beside]] = {}

    def note(self, sentence: str) -> None:
        """Tell what happened; the part that is made next is kept with it."""
        self._beside.notes.append(sentence)
        self._say(sentence)

    def lose(self, labels: int) -> None:
        """Count labels that could not be judged."""
        self._beside.lost += labels
        self.lost += labels

    def has(self, part: str) -> bool:
        """Tell whether `once` will find a part."""
        found = self._read(part)
        if found is not None:
            self._read_before[part] = found
        return found is not None

    def once(self, part: str, answer: Answer) -> NDArray[np.float32]:
        """Return a part as an attempt kept it, else compute and keep it."""
        found = self._read_before.pop(part, None) or self._read(part)
        if found is not None:
            log.info("%s was answered before", part)
            answers, beside = found
            self._take(beside)
            return answers
        answers = np.asarray(answer(), dtype=np.float32)
        self._beside.halvings = self.memory.halvings
        self._beside.halved = self.parts.halved
        self._store.put(self._key(part), encoded(answers, self._beside))
        self._beside = Beside()
        return answers

    def _take(self, beside: Beside) -> None:
        """Know what was known behind a part that is not made again."""
        self.memory.halvings = max(self.memory.halvings, beside.halvings)
        self.parts.halved = beside.halved
        self.lost += beside.lost
        for sentence in beside.notes:
            self._say(sentence)

    def _read(self, part: str) -> tuple[NDArray[np.float32], Beside] | None:
        key = self._key(part)
        try:
            return decoded(self._store.get(key))
        except MissingObjectError:
            return None
        except (safetensors.SafetensorError, ValidationError, KeyError) as error:
            log.warning("%s is damaged and computed again: %s", key, error)
            return None

    def _key(self, part: str) -> str:
        return f"{self._prefix}{part}{SUFFIX}"


def answers_prefix(spec: RunSpec, model: nn.Module) -> str:
    """Return the prefix of one model's parts.

    Neither another specification under the job's name nor other weights must find them: where the
    newest checkpoint is lost, a GPU may train the last epoch to others.
    """
    digest = hashlib.sha256(spec.digest().encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return f"{checkpoint_prefix(spec.job)}answers/{digest.hexdigest()}/"


def encoded(answers: NDArray[np.float32], beside: Beside) -> bytes:
    """Return a part [n, classes] as one object."""
    text = np.frombuffer(beside.model_dump_json().encode(), dtype=np.uint8)
    return safetensors.numpy.save({"answers": np.ascontiguousarray(answers), "beside": text})


def decoded(data: bytes) -> tuple[NDArray[np.float32], Beside]:
    """Return what was encoded; raises SafetensorError, ValidationError or KeyError."""
    found = safetensors.numpy.load(data)
    return found["answers"], Beside.model_validate_json(found["beside"].tobytes())
