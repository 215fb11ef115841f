"""The peer's side of a comparison; run by a Python that has fastai, with our pictures and split.

    python fastai_side.py PLAN STEPS [--workers N] [--bf16] [--channels-last] [--plain] ...

STEPS is `fine-tune` (`fine_tune(EPOCHS, freeze_epochs=2)`) or `frozen` (five epochs of the head).
Prints one line of JSON: seconds of training with all reading of pictures in it, and the error.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("plan", type=Path)
parser.add_argument("steps", choices=("fine-tune", "frozen"))
parser.add_argument("--torch-home", type=Path, help="holds hub/checkpoints/resnet18-f37072fd.pth")
parser.add_argument("--model", default="resnet18")
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--presize", type=int, default=460)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--lr", type=float, help="of frozen epochs; default: fastai's")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--workers", type=int, help="default: fastai's, one for each core")
parser.add_argument("--bf16", action="store_true", help="which fastai itself has on GPUs only")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--plain", action="store_true", help="one view, not augmented")


def main() -> None:
    given = parser.parse_args()
    if given.torch_home:
        os.environ["TORCH_HOME"] = str(given.torch_home)
    from fastai.vision import all as fastai

    fastai.set_seed(given.seed)
    learner = new_learner(fastai, given)
    began = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        if given.steps == "frozen":
            learner.freeze()
            learner.fit_one_cycle(given.epochs, given.lr, pct_start=0.3)
        else:
            learner.fine_tune(given.epochs, freeze_epochs=2)
        seconds = time.monotonic() - began
        loss, error = learner.validate()
    count = len(learner.dls.valid_ds)
    answer = {"seconds": seconds, "wrong": round(error * count), "of": count, "loss": loss}
    print(json.dumps(answer))


def new_learner(fastai: Any, given: argparse.Namespace) -> Any:
    """Return fastai's own `vision_learner`, with what its settings are asked to be."""
    rows = json.loads(given.plan.read_text())
    held_out = [place for place, (_, _, valid) in enumerate(rows) if valid]
    views = None if given.plain else fastai.aug_transforms(size=given.size, min_scale=0.75)
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_items=lambda _: rows,
        get_x=lambda row: row[0],
        get_y=lambda row: row[1],
        splitter=fastai.IndexSplitter(held_out),
        item_tfms=centred(fastai)(given.size if given.plain else given.presize),
        batch_tfms=views,
    )
    loading = {} if given.workers is None else {"num_workers": given.workers}
    loaders = block.dataloaders(None, bs=given.batch_size, **loading)
    architecture = getattr(fastai, given.model)
    learner = fastai.vision_learner(loaders, architecture, metrics=fastai.error_rate)
    if given.channels_last:
        learner.add_cb(fastai.ChannelsLast())
    if given.bf16:
        learner.add_cb(bf16_on_cpu(fastai))
    return learner


def centred(fastai: Any) -> Any:
    """Return its Resize, cutting the middle of training pictures too, as our presizing does."""

    class Centred(fastai.Resize):
        def before_call(self, b: Any, split_idx: int) -> None:
            # Training's 0 becomes validation's 1: the place of the crop is not drawn.
            super().before_call(b, split_idx or 1)

    return Centred


def bf16_on_cpu(fastai: Any) -> Any:
    """Return what fastai lacks: its MixedPrecision is for CUDA, and does nothing on a CPU."""
    import torch

    class Bf16(fastai.Callback):
        def before_batch(self) -> None:
            self.autocast = torch.autocast("cpu", torch.bfloat16)
            self.autocast.__enter__()

        def after_pred(self) -> None:
            self.autocast.__exit__(None, None, None)
            self.learn.pred = self.pred.float()

    return Bf16()


if __name__ == "__main__":
    main()
