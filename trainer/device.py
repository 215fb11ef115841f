"""Where the run computes: chosen once, told in the result, never silently the CPU."""

import torch

from bearloop.contract.runs import RunSpec
from trainer.errors import InputError


def choose_device(spec: RunSpec) -> torch.device:
    """Return the device that the spec asks for; raises InputError when it is not there."""
    if spec.device == "cpu" or (spec.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            "no_gpu",
            "the run asks for a GPU and none is visible to it",
            field="device",
            value=spec.device,
            way_out="ask for `cpu` or `auto`, or give the job a GPU (limits, driver, node)",
        )
    return torch.device("cuda", 0)


def device_name(device: torch.device) -> str:
    """Return the device in words, e.g. `cpu` or `cuda:0 NVIDIA H200`."""
    return "cpu" if device.type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"


def make_deterministic() -> None:
    """Let equal runs on one kind of machine give equal bits, and fp32 be fp32."""
    torch.use_deterministic_algorithms(True)
    # Only there to show reads of memory that nothing wrote; costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
