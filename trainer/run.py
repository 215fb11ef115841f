"""What stays the same through a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bearloop.contract.runs import RunSpec
from trainer.cache import EvaluationPixels, PresizedPixels
from trainer.checkpoint import Checkpoints
from trainer.data import Item
from trainer.interruption import Interruption
from trainer.mailbox import Mailbox
from trainer.ranks import Ranks
from trainer.tracking import Tracker


@dataclass(frozen=True)
class Run:
    """One attempt at one specification, with its pictures at hand."""

    spec: RunSpec
    items: Sequence[Item]
    presized: PresizedPixels
    evaluation: EvaluationPixels
    ranks: Ranks
    mailbox: Mailbox
    checkpoints: Checkpoints
    tracker: Tracker
    interruption: Interruption

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.ranks.device
