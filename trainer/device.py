"""Where the run computes: chosen once, told in the result, never silently the CPU."""

import torch

from bearloop.contract.runs import RunSpec
from trainer.errors import InputError


def choose_device(spec: RunSpec) -> torch.device:
    """Return the device that the spec asks for; raises InputError when it is not there."""
    if spec.device == "cpu" or (spec.device == "auto" and not sees_gpus(1)):
        return torch.device("cpu")
    if not sees_gpus(1):
        raise too_few_gpus(spec, 1)
    return torch.device("cuda", 0)


def sees_gpus(count: int) -> bool:
    """Tell whether so many GPUs are visible to this process."""
    return torch.cuda.is_available() and torch.cuda.device_count() >= count


def too_few_gpus(spec: RunSpec, count: int) -> InputError:
    """Return the error of a run that needs `count` GPUs here and does not see them."""
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asks = "a GPU" if count == 1 else f"{count} GPUs on one machine"
    return InputError(
        "no_gpu",
        f"the run asks for {asks} and {visible or 'none'} {'are' if visible > 1 else 'is'} "
        "visible to it",
        field="device",
        value=spec.device,
        way_out="ask for `cpu` or `auto`, or give the job a GPU (limits, driver, node)",
    )


def device_name(device: torch.device) -> str:
    """Return the device in words, e.g. `cpu` or `cuda:0 NVIDIA H200`."""
    return "cpu" if device.type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"


def make_deterministic() -> None:
    """Let equal runs on one kind of machine give equal bits, and fp32 be fp32."""
    torch.use_deterministic_algorithms(True)
    # Only there to show reads of memory that nothing wrote; costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # cuDNN would round what convolutions read to ten bits, in a run that asks for fp32.
    torch.backends.cudnn.allow_tf32 = False
