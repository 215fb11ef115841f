"""In which numbers a step computes: fp32, or bf16 or fp16 where autocast knows that it may.

fp16 has no room for small gradients: the loss is scaled up before the backward pass, the gradient
down before the step, and a step whose gradient overflowed is left out and the scale halved.
"""

from collections.abc import Mapping
from typing import Final

import torch

from bearloop.contract.recipes import Precision
from bearloop.contract.runs import RunSpec
from trainer.errors import InputError

DTYPES: Final[Mapping[Precision, torch.dtype]] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context that a forward pass of training runs in."""
    kind = DTYPES.get(precision, torch.bfloat16)
    return torch.autocast(device.type, kind, enabled=precision in DTYPES)


def new_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
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


def check_precision(spec: RunSpec, device: torch.device) -> None:
    """Raise InputError for fp16 on a CPU: torch trains in bf16 and fp32 there."""
    if spec.recipe.precision == "fp16" and device.type == "cpu":
        raise InputError(
            "no_fp16_on_cpu",
            "the recipe trains in fp16, and the run computes on a CPU",
            field="recipe.precision",
            value="fp16",
            way_out="take bf16 or fp32, or ask for a GPU (device cuda)",
        )
