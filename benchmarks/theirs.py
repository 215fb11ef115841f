"""The peer's side of a comparison: fastai, run by the Python of an environment of its own."""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import Trained
from pictures import Picture, write_plan

SIDE = Path(__file__).parent / "fastai_side.py"
CHECKPOINTS = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-11ad3fa6.pth",
}
"""Where fastai's torchvision looks for weights."""
BEST = ("--bf16", "--channels-last")
"""What makes fastai fastest on a CPU with bf16; more or fewer workers than one a core do not."""


def torch_home(weights: Path, model: str, home: Path) -> Path:
    """Put the weights where torchvision looks before it downloads them."""
    place = home / "hub" / "checkpoints" / CHECKPOINTS[model]
    place.parent.mkdir(parents=True)
    data = weights.read_bytes()
    place.write_bytes(lzma.decompress(data) if weights.suffix == ".xz" else data)
    return home


@dataclass(frozen=True)
class Fastai:
    """fastai in its own Python, with the options of every training."""

    python: Path
    home: Path
    """What `torch_home` made."""
    options: tuple[str, ...]

    def train(self, pictures: Sequence[Picture], steps: str, *options: str, fold: int) -> Trained:
        """Train on all but one fold; fastai_side.py names steps and options."""
        told = (f"--torch-home={self.home}", f"--seed={fold + 1}", *self.options, *options)
        environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        with tempfile.TemporaryDirectory() as scratch:
            plan = Path(scratch, "plan.json")
            write_plan(pictures, plan, fold=fold)
            command = [self.python, SIDE, plan, steps, *told]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            sys.exit(done.stderr)
        answer = json.loads(done.stdout.splitlines()[-1])
        return Trained(answer["seconds"], answer["wrong"], answer["of"])
