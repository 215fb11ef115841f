"""The peer's side of a comparison: fastai, run by the Python of an environment of its own."""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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


def train(
    peer: Path,
    pictures: Sequence[Picture],
    steps: str,
    *,
    home: Path,
    fold: int,
    options: Sequence[str],
) -> Trained:
    """Train with fastai; fastai_side.py names the steps and options."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch, "plan.json")
        write_plan(pictures, plan, fold=fold)
        command = [peer, SIDE, plan, steps, f"--torch-home={home}", f"--seed={fold + 1}", *options]
        environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Trained(answer["seconds"], answer["wrong"], answer["of"])
