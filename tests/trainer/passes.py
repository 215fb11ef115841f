"""Watches which models are trained and which pictures they see, and kills between them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import register_module_forward_pre_hook

from trainer.model import AveragePool, ConcatPool


class KilledError(BaseException):
    """The process is gone: nothing runs behind it."""


class Pass(NamedTuple):
    """Some pictures on their way through a model."""

    pool: nn.Module
    training: bool
    count: int


@contextmanager
def passes(look: Callable[[Sequence[Pass]], None] = lambda _: None) -> Iterator[list[Pass]]:
    """Give the passes through whatever model; `look` sees them at each, before it is done.

    Those of one picture are left out, by which a model that is built learns its width, and those
    of an export, which has no pictures.
    """
    seen: list[Pass] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if not isinstance(module, ConcatPool | AveragePool) or isinstance(given[0], FakeTensor):
            return
        if len(given[0]) > 1:
            seen.append(Pass(module, module.training, len(given[0])))
            look(seen)

    hook = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def models(seen: Sequence[Pass]) -> list[nn.Module]:
    """The models that were trained, in their order."""
    return list(dict.fromkeys(one.pool for one in seen if one.training))


def at_model(number: int, do: Callable[[], None]) -> Callable[[Sequence[Pass]], None]:
    """Do something when this model is about to take its first step."""

    def look(seen: Sequence[Pass]) -> None:
        if seen[-1].training and len(models(seen)) == number > len(models(seen[:-1])):
            do()

    return look


def die() -> None:
    raise KilledError
