"""Several processes that were interrupted end with the bits of those that were left alone."""

from pathlib import Path

import torch

from bearloop.contract.recipes import CacheStage, EvaluateStage
from bearloop.store import FolderStore
from tests.trainer.team import trained
from tests.trainer.test_ranks import shared
from tests.trainer.versions import recipe, whole

THREE_STEPS = recipe(CacheStage(presize=32), whole(2), EvaluateStage(folds=2), batch_size=7)
"""An epoch of 21 pictures."""


def test_three_processes_that_were_interrupted_end_with_equal_bits(tmp_path: Path) -> None:
    # Of two processes' numbers a sum has one order only; of three it has several.
    store = FolderStore(tmp_path / "store")
    shared(store, THREE_STEPS, nodes=3)
    for found in trained(store.url, tmp_path, what="fit twice", count=3):
        assert (found["begun"], found["steps"]) == (2, 6)
        straight, resumed = found["straight"], found["resumed"]
        assert straight.keys() == resumed.keys()
        differ = [name for name in straight if not torch.equal(straight[name], resumed[name])]
        assert differ == []
