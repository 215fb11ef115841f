"""In which numbers a step computes: fp32, or bf16 or fp16 where autocast knows that it may.

fp16 has no room for small gradients: the loss is scaled up before the backward pass, the gradient
down before the step, and a step whose gradient overflowed is left out and the scale halved.
"""

from collections.abc import Mapping
from typing import Final, Literal

import torch

from bearloop.contract.recipes import Precision
from bearloop.contract.runs import RunSpec
from trainer.errors import InputError
from trainer.ranks import Ranks

Numbers = Literal["bf16", "fp16", "fp32"]
"""A precision that was decided."""
DTYPES: Final[Mapping[str, torch.dtype]] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def numbers_of(precision: Precision, device: torch.device) -> Numbers:
    """Return what a run on this device computes in: what was asked for, or what is fast there."""
    return fastest(device.type, has_bf16=_has_bf16(device)) if precision == "auto" else precision


def fastest(kind: str, *, has_bf16: bool) -> Numbers:
    """Decide for a CPU or a GPU.

    Without instructions for it bf16 takes eight times as long as fp32 on a CPU; older GPUs have
    fp16.
    """
    if has_bf16:
        return "bf16"
    return "fp16" if kind == "cuda" else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def autocast(precision: Numbers, device: torch.device) -> torch.autocast:
    """Return the context that a forward pass of training runs in."""
    kind = DTYPES.get(precision, torch.bfloat16)
    return torch.autocast(device.type, kind, enabled=precision in DTYPES)


def new_scaler(precision: Numbers, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss; for other numbers than fp16 it changes nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def scale_of(scaler: torch.amp.GradScaler) -> dict[str, float]:
    """Return what a checkpoint keeps of a scaler; empty where it does nothing."""
    state = scaler.state_dict()
    return {key: state[key] for key in ("scale", "_growth_tracker") if key in state}


def restore_scale(scaler: torch.amp.GradScaler, kept: Mapping[str, float]) -> None:
    """Put back what `scale_of` returned."""
    if kept and scaler.is_enabled():
        growth = int(kept["_growth_tracker"])
        state = {**scaler.state_dict(), "scale": kept["scale"], "_growth_tracker": growth}
        scaler.load_state_dict(state)


def check_precision(spec: RunSpec, ranks: Ranks) -> None:
    """Raise InputError for fp16 on a CPU, where torch trains in bf16 and fp32.

    And for processes that would compute in different numbers: gradients scaled apart are no mean.
    """
    device, asked = ranks.device, spec.recipe.precision
    bf16 = numbers_of(asked, device) == "bf16"
    if ranks.any(bf16) and ranks.any(not bf16):
        raise InputError(
            "different_processors",
            "some of the run's processors compute in bf16 and some do not",
            field="recipe.precision",
            value=asked,
            way_out="ask for fp32, or for bf16, which is slow on those without it; or for nodes "
            "of one kind",
        )
    if asked == "fp16" and device.type == "cpu":
        raise InputError(
            "no_fp16_on_cpu",
            "the recipe trains in fp16, and the run computes on a CPU",
            field="recipe.precision",
            value="fp16",
            way_out="take bf16 or fp32, or ask for a GPU (device cuda)",
        )
