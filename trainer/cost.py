"""What a run costs: how busy it keeps its machines, and how much memory it takes at its peak."""

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import numpy as np
import torch

from bearloop.contract.runs import Cost
from trainer.checkpoint import FitState
from trainer.ranks import Ranks

PERIOD: Final = 1.0
"""Seconds between two looks at a GPU; its driver averages over about as long."""
UNKNOWN: Final = float("nan")
STATUS: Final = Path("/proc/self/status")


class Used(NamedTuple):
    """What one process used; a number is NaN where nobody can tell."""

    node: float
    cores: float
    """That the process may run on."""
    seconds: float
    """That its fit stages took, in this attempt."""
    cpu_seconds: float
    """Of all its threads, while they took them."""
    memory: float
    """Bytes at its peak, in the machine."""
    gpu: float
    """Mean share of the time in which its GPU was busy, 0..1."""
    gpu_memory: float
    """Bytes at the peak of what it held on its GPU."""


class Meter:
    """Watches one process of a run."""

    def __init__(self, ranks: Ranks) -> None:
        """Stand for the process; nothing is read before `fitting`."""
        self._ranks = ranks
        self._seconds = self._cpu_seconds = 0.0
        self._looks: list[float] = []

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Watch what happens inside."""
        began, cpu_began = time.monotonic(), time.process_time()
        with self._looking():
            yield
        self._seconds += time.monotonic() - began
        self._cpu_seconds += time.process_time() - cpu_began

    def all_used(self) -> list[Used]:
        """Return what each process of the run used, this one's too; all get them."""
        own = np.array([self.used()], dtype=np.float32)
        return [Used(*map(float, one)) for one in self._ranks.gathered(own)]

    def used(self) -> Used:
        """Return what this process used so far."""
        device = self._ranks.device
        on_gpu = device.type == "cuda"
        return Used(
            node=self._ranks.number // self._ranks.local_count,
            cores=cores(),
            seconds=self._seconds,
            cpu_seconds=self._cpu_seconds,
            memory=peak_memory(),
            gpu=fmean(self._looks) if self._looks else UNKNOWN,
            gpu_memory=torch.cuda.max_memory_allocated(device) if on_gpu else UNKNOWN,
        )

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Look at the GPU now and then, where there is one and its driver can be asked."""
        if self._ranks.device.type != "cuda" or self._look() is None:
            yield
            return
        over = threading.Event()
        watch = threading.Thread(target=self._look_until, args=(over,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _look_until(self, over: threading.Event) -> None:
        while not over.wait(PERIOD):
            busy = self._look()
            if busy is not None:
                self._looks.append(busy)

    def _look(self) -> float | None:
        try:
            return torch.cuda.utilization(self._ranks.device) / 100
        except (ImportError, RuntimeError):  # no pynvml, or a driver that does not say
            return None


def cost_of(used: Sequence[Used], state: FitState) -> Cost:
    """Add up what the processes of a run used, and how fast its fit stages went."""
    nodes = [[one for one in used if one.node == node] for node in {one.node for one in used}]
    gpus = [one.gpu for one in used if not np.isnan(one.gpu)]
    gpu_memory = [one.gpu_memory for one in used if not np.isnan(one.gpu_memory)]
    return Cost(
        images_per_second=state.trained / state.train_seconds if state.train_seconds else None,
        cpu_utilisation=fmean(_busy_cores(node) for node in nodes),
        gpu_utilisation=fmean(gpus) if gpus else None,
        peak_memory=int(max(sum(one.memory for one in node) for node in nodes)),
        peak_gpu_memory=int(max(gpu_memory)) if gpu_memory else None,
        stages=cost_stages(state),
    )


def cost_stages(state: FitState) -> dict[str, float]:
    """Add up the seconds of each fit stage's epochs, beside a body's pass and searches of rates."""
    seconds = dict(state.seconds_beside)
    for epoch in state.epochs:
        seconds[epoch.stage] = seconds.get(epoch.stage, 0.0) + epoch.seconds
    return seconds


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> int:
    """Return the most bytes that this process held in memory, files mapped into it too."""
    if STATUS.exists():
        # Unlike getrusage's, this peak begins with the program, not with who started it.
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _busy_cores(node: Sequence[Used]) -> float:
    """Return the share of a node's cores that its processes kept busy, 0..1."""
    seconds = max(one.seconds for one in node)
    if not seconds:
        return 0.0
    return sum(one.cpu_seconds for one in node) / (seconds * max(one.cores for one in node))
