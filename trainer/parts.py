"""Pictures that do not fit into the device's memory are answered fewer at a time, from there on.

That is for what takes no gradient: validation, evaluation, a body's pass. A step has `memory.py`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from trainer.memory import too_large
from trainer.ranks import Ranks

NEVER: Final = (0, 0)
Pictures = Callable[[slice], Tensor]
"""Makes those of a place on the device, [m, …]."""
Say = Callable[[str], None]
"""Told a sentence for the run's events."""
log = logging.getLogger(__name__)


class Parts:
    """How many pictures at a time fit; what was halved stays so."""

    def __init__(self, what: str, say: Say = log.warning) -> None:
        """Begin with all that come; `say` is told once where so many do not fit.

        `what` is done with the pictures, as it stands behind "out of memory in".
        """
        self._what = what
        self.say = say
        self.halved = NEVER
        """Pictures at a time that did not fit, and that did in their place."""

    def answer(
        self, model: Callable[[Tensor], Tensor], pictures: Pictures, *, count: int
    ) -> Tensor:
        """Answer `count` pictures by the model, [count, …]; raises InputError where not one fits.

        They are made as many at a time as they are answered: making them takes memory, too.
        """
        too_many, size = 0, min(self.halved[1] or count, count)
        while (found := self._tried(model, pictures, count=count, size=size)) is None:
            # Not in the handler of the error, where the failed pass's tensors are held.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            too_many, size = too_many or size, -(-size // 2)
        if too_many:
            self.halved = (too_many, size)
            self.say(self.words(*self.halved))
        return found

    def words(self, too_many: int, fit: int) -> str:
        """Say that so many pictures at a time did not fit, and how many do."""
        return (
            f"out of memory in {self._what} with {too_many} pictures at a time: computed in {fit} "
            "at a time from here on"
        )

    def _tried(
        self, model: Callable[[Tensor], Tensor], pictures: Pictures, *, count: int, size: int
    ) -> Tensor | None:
        places = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        try:
            return torch.cat([model(pictures(place)) for place in places])
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise too_large(1, at=self._what) from error
            log.warning("out of memory in %s: %s", self._what, error)
            return None


def say_what_others_halved(ranks: Ranks, parts: Sequence[Parts]) -> None:
    """Let the first process say what only others ran out of memory in; all must come here.

    Each has said its own, and only the first one is heard.
    """
    own = np.asarray([[part.halved for part in parts]], dtype=np.float32)
    told = ranks.gathered(own).astype(int)
    for place, part in enumerate(parts):
        heard, *others = (tuple(found) for found in told[:, place])
        worst = max(others, key=lambda found: (found != NEVER, -found[1]), default=NEVER)
        if ranks.leads and heard == NEVER and worst != NEVER:
            part.say(part.words(*worst))
