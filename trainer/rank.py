"""One process of a run that several train: `python -m trainer.rank ENDS …`, started by torchrun.

It does what `python -m trainer …` does, and writes how it ended below the folder ENDS.
"""

import os
import sys
import traceback
from pathlib import Path

from trainer.__main__ import main
from trainer.settings import read_rank


def run_rank(ends: Path, arguments: list[str]) -> None:
    """Take part in the run; ends the process."""
    code = None
    try:
        code = main(arguments)
    finally:
        place = read_rank()
        if code is None:
            traceback.print_exc()
        elif place is not None:
            (ends / str(place.local)).write_text(str(int(code)))
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end would wait for peers, some of which may be gone.
        os._exit(1 if code is None else 0)


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]), sys.argv[2:])
