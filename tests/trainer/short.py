"""A device whose memory is short, on any machine."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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


class Room(TorchDispatchMode):
    """A device that has no room for a tensor of more than so many bytes."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.nbytes > self.largest:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return made
