"""A device whose memory is short, on any machine."""

import torch
from torch import nn

from trainer.model import Classifier


class Short:
    """A device's memory that holds so many pictures: more of them raise where a GPU would."""

    def __init__(self, model: Classifier, *, holds: int) -> None:
        self.holds = holds
        self.tried: list[int] = []
        # Behind the body: BatchNorm has taken its statistics when the step fails.
        model.pool.register_forward_pre_hook(self._allocate)

    def _allocate(self, module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            self.tried.append(len(given[0]))
            if len(given[0]) > self.holds:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
