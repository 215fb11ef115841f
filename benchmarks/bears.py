"""The life on the lesson's bears: `fine-tune` over five seeds, and the bear with two labels.

    python benchmarks/bears.py FOLDER WEIGHTS [--seeds 5]

FOLDER holds one folder of photographs per class; WEIGHTS is torchvision's resnet18 (`.pth` or
`.pth.xz`). Prints the error on the valid split for each seed, and what the first screen shows.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bearloop.cli.images import upload_folder
from bearloop.cli.login import read_login
from bearloop.client import Client
from bearloop.local import Plan, free_port, running

DATASET = "bears"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        plan = Plan(Path(folder), free_port(8080), free_port(5000), say=lambda _: None)
        with running(plan):
            login = read_login(plan.login_file)
            client = Client(login.url, login.token, project=login.project)
            measure(client, given.folder, given.weights, seeds=given.seeds)


def measure(client: Client, folder: Path, weights: Path, *, seeds: int) -> None:
    client.datasets.create(DATASET)
    started = client.datasets.start_import(DATASET, upload_folder(client, DATASET, folder))
    print(client.datasets.wait_for_import(DATASET, started.number))
    version = client.datasets.freeze(DATASET)
    asked = {"model": "resnet18", "weights": weights.resolve().as_uri(), "recipe": "fine-tune"}
    runs = client.runs.start(DATASET, version.number, seed=1, seeds=seeds, **asked)
    errors: list[float] = []
    for run in runs:
        began = time.monotonic()
        ended = client.runs.wait(run.number)
        error = client.runs.report(run.number).splits["valid"].error
        errors.append(error.value)
        print(
            f"seed {run.seed}: error {error.value:.2%} ({error.low:.1%} - {error.high:.1%}, "
            f"{error.n} images), {time.monotonic() - began:.0f} s, {ended.seconds}",
            flush=True,
        )
    print(f"median error over {seeds} seeds: {statistics.median(errors):.2%}")
    review = client.reviews.open(runs[0].number)
    for image in client.reviews.claim(review.number).images:
        print(f"first screen: {image.sha256[:12]} label {image.label or 'CONFLICT'}, {image.split}")


if __name__ == "__main__":
    main()
