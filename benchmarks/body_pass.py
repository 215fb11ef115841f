"""The least that one pass of a body over pictures takes here: what no `precompute` can be under.

    python benchmarks/body_pass.py [--model resnet18] [--pictures 476] [--size 224]

Nothing but the network, on a batch that is there already: in fp32, in bf16 by autocast as the
trainer has it, and at its fastest, in bf16 with each BatchNorm folded into its convolution.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from api.runs.named_recipes import PRECOMPUTE
from trainer.model import build_classifier

BATCHES = (32, 64, 128)
TIMES = 6
"""Of which the quickest counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--pictures", type=int, default=476)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    recipe = PRECOMPUTE.model_copy(update={"model": given.model, "weights": "none"})
    body = build_classifier(recipe, 2, None).body.eval().to(memory_format=torch.channels_last)
    for count in BATCHES:
        pictures = torch.rand(count, 3, given.size, given.size)
        pictures = pictures.to(memory_format=torch.channels_last)
        for name, seconds in ways(body, pictures).items():
            took = seconds * given.pictures / count
            print(f"{name:12} {count:4} at a time: {given.pictures} pictures in {took:.2f} s")


def ways(body: nn.Module, pictures: Tensor) -> dict[str, float]:
    """Return the seconds of a batch, by how the network computes."""
    with torch.inference_mode():
        found = {"fp32": quickest(lambda: body(pictures))}
        with torch.autocast("cpu", torch.bfloat16):
            found["autocast"] = quickest(lambda: body(pictures))
    half, halved = body.bfloat16(), pictures.bfloat16()
    folded = torch.jit.freeze(torch.jit.trace(half, halved))
    with torch.inference_mode():
        found["folded bf16"] = quickest(lambda: folded(halved))
    body.float()
    return found


def quickest(act: Callable[[], object]) -> float:
    """Return the seconds of the quickest of some times, after one that does not count."""
    act()
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return min(taken)


if __name__ == "__main__":
    main()
