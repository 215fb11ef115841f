"""The life on the lesson's bears: `fine-tune` over five seeds, and the bear with two labels.

    python benchmarks/bears.py FOLDER WEIGHTS [--seeds 5] [--first 1] [--epochs N]

FOLDER holds one folder of photographs per class; WEIGHTS is torchvision's resnet18 (`.pth` or
`.pth.xz`). Prints error and mean loss on the valid split for each seed, their medians, and what the
first screen shows. The goal is told of seeds 1 to 5: whoever compares recipes takes others
(`--first 11`), and looks at the median loss too, which one picture does not move by a whole step.
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
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="unfrozen ones; default: the recipe's")
    given = parser.parse_args()
    asked = {"seed": given.first, "seeds": given.seeds, "epochs": given.epochs}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        plan = Plan(Path(folder), free_port(8080), free_port(5000), say=lambda _: None)
        with running(plan):
            login = read_login(plan.login_file)
            client = Client(login.url, login.token, project=login.project)
            measure(client, given.folder, given.weights, asked=asked)


def measure(client: Client, folder: Path, weights: Path, *, asked: dict[str, int | None]) -> None:
    client.datasets.create(DATASET)
    started = client.datasets.start_import(DATASET, upload_folder(client, DATASET, folder))
    print(client.datasets.wait_for_import(DATASET, started.number))
    version = client.datasets.freeze(DATASET)
    training = {"model": "resnet18", "weights": weights.resolve().as_uri(), "recipe": "fine-tune"}
    runs = client.runs.start(DATASET, version.number, **training, **asked)
    errors: list[float] = []
    losses: list[float] = []
    for run in runs:
        began = time.monotonic()
        ended = client.runs.wait(run.number)
        figures = client.runs.report(run.number).splits["valid"]
        error = figures.error
        errors.append(error.value)
        losses.append(figures.log_loss)
        print(
            f"seed {run.seed}: error {error.value:.2%} ({error.low:.1%} - {error.high:.1%}, "
            f"{error.n} images), loss {figures.log_loss:.3f}, {time.monotonic() - began:.0f} s, "
            f"{ended.seconds}",
            flush=True,
        )
    middle, loss = statistics.median(errors), statistics.median(losses)
    print(f"median over {len(errors)} seeds: error {middle:.2%}, loss {loss:.3f}")
    review = client.reviews.open(runs[0].number)
    for image in client.reviews.claim(review.number).images:
        print(f"first screen: {image.sha256[:12]} label {image.label or 'CONFLICT'}, {image.split}")


if __name__ == "__main__":
    main()
