"""A step's memory is the next one's."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")

FAULTS = """
import resource, sys, torch
from trainer.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16, 1024, 1024).fill_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Touches 64 MB again and again, and prints how many pages were new each time."""


@pytest.mark.parametrize(("how", "new"), [("kept", False), ("returned", True)])
def test_freed_memory_is_used_again(how: str, new: bool) -> None:
    command = [sys.executable, "-c", FAULTS, how]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    last = int(printed.split()[-1])
    # 64 MB are 16,384 pages of 4 KiB, or 32 huge ones.
    assert (last > 30) == new
