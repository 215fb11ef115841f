"""Peak memory of a whole run as its version grows: 500, 5,000 and 50,000 pictures.

    python benchmarks/memory.py WEIGHTS [--images 500 5000 50000] [--size 32]

Pictures are made here; what is counted is the memory of the trainer's own (anonymous, in MB):
decoded pictures and features lie in mapped files, whose pages the system takes back.
"""

import argparse
import hashlib
import io
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import ours
from pictures import FOLDS, Picture
from PIL import Image

from api.runs.named_recipes import FINE_TUNE
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import CacheStage, FitStage, Recipe

CLASSES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000, 50_000])
    parser.add_argument("--size", type=int, default=32)
    given = parser.parse_args()
    recipe = small(given.weights, size=given.size)
    for count in given.images:
        with tempfile.TemporaryDirectory() as scratch:
            peak, seconds = trained(count, recipe, size=given.size, folder=Path(scratch))
        print(f"{count:6} pictures: {peak / 1e6:7.1f} MB at most, {seconds:.0f} s", flush=True)


def small(weights: Path, *, size: int) -> Recipe:
    """Return `fine-tune` on small pictures, one epoch of each stage, report and all."""
    stages: list[object] = [CacheStage(presize=size + 8)]
    for stage in FINE_TUNE.stages[1:]:
        once = {"epochs": 1} if isinstance(stage, FitStage) else {}
        stages.append(stage.model_copy(update=once))
    own = {
        "model": "resnet18",
        "weights": weights.resolve().as_uri(),
        "preprocess": Preprocess(size=size),
        "stages": tuple(stages),
    }
    return FINE_TUNE.model_copy(update=own)


def trained(count: int, recipe: Recipe, *, size: int, folder: Path) -> tuple[float, float]:
    """Train on so many pictures; return the peak in bytes and the seconds."""
    store = folder / "store"
    store.mkdir()
    spec = ours.put_version(made(count, size=size, folder=folder), store, recipe=recipe, fold=0)
    began, peaks = time.monotonic(), [0]
    process = ours.started(spec, store, cache=folder / "cache")
    threading.Thread(target=follow, args=(process, peaks), daemon=True).start()
    ours.output_of(process)
    return max(peaks), time.monotonic() - began


def follow(process: subprocess.Popen[str], peaks: list[int]) -> None:
    """Note what the process holds, twenty times a second."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
        time.sleep(0.05)


def made(count: int, *, size: int, folder: Path) -> list[Picture]:
    """Write pictures of coloured noise, their colour by their class."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        label = number % CLASSES
        pixels = random.integers(0, 160, (size, size, 3), dtype=np.uint8)
        pixels[..., label] += 60
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = folder / f"{digest}.png"
        path.write_bytes(buffer.getvalue())
        pictures.append(Picture(path, f"class {label}", digest, number // CLASSES % FOLDS))
    return pictures


if __name__ == "__main__":
    main()
