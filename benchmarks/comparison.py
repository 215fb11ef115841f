"""What the comparisons with fastai share: what they are told, their peer, their table."""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import theirs
from figures import Trained, error, faster, seconds


def asking(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every comparison is told."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--model", default="resnet18", choices=theirs.CHECKPOINTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timed", type=int, default=2)
    return parser


@contextmanager
def fastai(given: argparse.Namespace, *options: str) -> Iterator[theirs.Fastai]:
    """Give fastai the model and weights that were asked for, and these options each time."""
    with tempfile.TemporaryDirectory() as scratch:
        home = theirs.torch_home(given.weights, given.model, Path(scratch, "torch"))
        yield theirs.Fastai(given.peer, home, (f"--model={given.model}", *options))


class Tally(dict[str, list[Trained]]):
    """Trainings by who did them, in the order of their seeds."""

    def note(self, name: str, trained: Trained) -> None:
        """Take one more, and say it."""
        self.setdefault(name, []).append(trained)
        print(f"seed {len(self[name])}, {name}: {trained}", flush=True)

    def show(self, mine: Sequence[str], *, epochs: int = 1) -> None:
        """Print seconds (of an epoch where `epochs` are many), errors, and how fast `mine` are."""
        print(f"\n{'':24} seconds{' an epoch' if epochs > 1 else ''}   error")
        for name, trained in self.items():
            print(f"{name:24} {seconds(trained) / epochs:7.1f}   {error(trained)}")
        for name in mine:
            for peer in (peer for peer in self if peer.startswith("fastai")):
                times = faster(self[name], self[peer])
                print(f"{name} is {times:.2f} x as fast as {peer}")
