"""BatchNorm over the whole batch, where several processes each hold a part of it.

torch's SyncBatchNorm does it on GPUs only; here its arithmetic is written out for CPUs, so that one
run agrees with itself whatever it is shared by.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SharedBatchNorm(_BatchNorm):
    """Mean and variance of all processes' pictures; in eval mode like any other BatchNorm."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Normalise [n, channels, …]."""
        if not self.training:
            return super().forward(input)
        out, mean, variance, count = _Shared.apply(input, self.weight, self.bias, self.eps)
        self._remember(mean, variance * count / (count - 1))
        normalised: Tensor = out
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's own name
        """Any shape will do: [n, channels, …]."""

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(variance.to(self.running_var), self.momentum)


def share_statistics(module: nn.Module, *, device: torch.device) -> None:
    """Exchange every BatchNorm below for a shared one, with the same weights and statistics."""
    for name, child in module.named_children():
        if not isinstance(child, _BatchNorm):
            share_statistics(child, device=device)
        elif device.type == "cuda":
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
        else:
            setattr(module, name, _shared(child))


def _shared(norm: _BatchNorm) -> SharedBatchNorm:
    made = SharedBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    # The same tensors, not copies: whoever knows the parameters still does.
    for name, parameter in norm.named_parameters():
        setattr(made, name, parameter)
    for name, buffer in norm.named_buffers():
        setattr(made, name, buffer)
    made.train(norm.training)
    return made


class _Shared(torch.autograd.Function):
    """y = (x - mean) / std * weight + bias over all processes' x, and its exact gradient."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, weight, bias, eps = given
        values = x.double()
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64)
        sums = torch.cat([_over_all(values), _over_all(values.square()), count])
        dist.all_reduce(sums)
        total, squares, counted = sums[: x.shape[1]], sums[x.shape[1] : -1], sums[-1:]
        mean = total / counted
        variance = (squares / counted - mean.square()).clamp_min(0)
        scale = (variance + eps).rsqrt()
        unit = ((values - _along(mean, x)) * _along(scale, x)).to(weight.dtype)
        ctx.save_for_backward(unit, scale, weight, counted)
        ctx.mark_non_differentiable(mean, variance, counted)
        out = (unit * _along(weight, x) + _along(bias, x)).to(x.dtype)
        return out, mean, variance, counted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        unit, scale, weight, count = ctx.saved_tensors
        given = gradients[0]
        own_bias = _over_all(given.double())
        own_weight = _over_all(given.double() * unit)
        sums = torch.cat([own_bias, own_weight])
        dist.all_reduce(sums)
        bias, turned = (part / count for part in sums.chunk(2))
        centred = given - _along(bias, given) - unit * _along(turned, given)
        passed = centred * _along(weight.double() * scale, given)
        return passed.to(given.dtype), own_weight.to(weight.dtype), own_bias.to(weight.dtype), None


def _over_all(values: Tensor) -> Tensor:
    return values.sum(dim=[d for d in range(values.ndim) if d != 1])


def _along(channels: Tensor, like: Tensor) -> Tensor:
    return channels.view(1, -1, *[1] * (like.ndim - 2))
