"""A device whose memory is short, on any machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.model import AveragePool, Classifier, ConcatPool

FULL = "CUDA out of memory. Tried to allocate 20.00 MiB."


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
                raise torch.OutOfMemoryError(FULL)


class Room(TorchDispatchMode):
    """A device that has no room for a tensor of more than so many bytes."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.nbytes > self.largest:
                raise torch.OutOfMemoryError(FULL)
        return made


class Crowded(TorchDispatchMode):
    """A device that has no room for so many pictures, float [n, 3, side, side], once made."""

    def __init__(self, *, holds: int) -> None:
        super().__init__()
        self.holds = holds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.ndim == 4 and made.is_floating_point():
            count, channels, side, _ = made.shape
            # A first layer's weights are as many, and smaller.
            if channels == 3 and side > 16 and count > self.holds:
                raise torch.OutOfMemoryError(FULL)
        return made


class Holding:
    """A model on a device that holds so many pictures; answers twice what it sees."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.tried: list[int] = []

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(pictures))
        if len(pictures) > self.holds:
            raise torch.OutOfMemoryError(FULL)
        return pictures * 2


@contextmanager
def short_for_all(*, holds: int, training: bool) -> Iterator[list[int]]:
    """A device's memory that holds so many pictures of whatever model; gives what was tried.

    Of the passes that train, or of those that do not, alone.
    """
    tried: list[int] = []

    def allocate(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, ConcatPool | AveragePool) and module.training is training:
            tried.append(len(given[0]))
            if len(given[0]) > holds:
                raise torch.OutOfMemoryError(FULL)

    hook = register_module_forward_pre_hook(allocate)
    try:
        yield tried
    finally:
        hook.remove()
