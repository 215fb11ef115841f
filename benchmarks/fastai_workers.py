"""How many workers fastai is fastest with: what "fastai, best" of the comparisons leaves as it is.

    python benchmarks/fastai_workers.py FOLDER WEIGHTS PEER [--model resnet18] [--epochs 2]

One training of fold 1 with each number, in bf16 and channels last, as in against_fastai.py.
"""

from comparison import Tally, asking, fastai
from pictures import labelled
from theirs import BEST

NUMBERS = (0, 1, 2, 4)
"""0: pictures are decoded between the steps."""


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    pictures = labelled(given.folder)
    done = Tally()
    with fastai(given, f"--epochs={given.epochs}") as peer:
        for number in NUMBERS:
            options = (*BEST, f"--workers={number}")
            trained = peer.train(pictures, "fine-tune", *options, fold=0)
            done.note(f"fastai, {number} workers", trained)
    done.show([])


if __name__ == "__main__":
    main()
