"""Watches what a process of a run uses, and keeps it beside the attempt's progress.

It is kept while the process works: one that is killed has told what it took until shortly before.
"""

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import torch
from pydantic import ValidationError
from pynvml import NVMLError

from bearloop.contract.jobs import attempts_prefix
from bearloop.store import Store, StoreError
from trainer.cost import FIT, Used
from trainer.mailbox import Mailbox
from trainer.ranks import Ranks

PERIOD: Final = 1.0
"""Seconds between two looks at a GPU; its driver averages over about as long."""
KEPT_EVERY: Final = 5
"""Looks between two writes."""
STATUS: Final = Path("/proc/self/status")
FILE: Final = "used-"
log = logging.getLogger(__name__)


class Meter:
    """Watches one process of an attempt."""

    def __init__(self, ranks: Ranks, mailbox: Mailbox) -> None:
        """Stand for the process; nothing is read or written before `watching`."""
        self._ranks = ranks
        self._mailbox = mailbox
        self._clock = _Clock({}, cpu_seconds=0.0)
        self._looks: list[float] = []
        self._writing = threading.Lock()
        """Both threads write: what is newer last."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what happens inside, and keep what it used however it ends."""
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            self.keep()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time what happens inside as a stage of the job."""
        self._clock = self._clock.started(stage)
        try:
            yield
        finally:
            self._clock = self._clock.stopped()

    def keep(self) -> None:
        """Write what this process used so far; training does not end where the store fails."""
        key = f"{self._mailbox.prefix}{FILE}{self._ranks.number}.json"
        try:
            with self._writing:
                self._mailbox.store.put(key, self.used().canonical())
        except (StoreError, OSError) as error:
            log.warning("what the run used so far is not kept: %s", error)

    def used_by_all(self) -> list[Used]:
        """Return what all processes of all attempts kept, this one's brought up to date."""
        self.keep()
        return read_used(self._mailbox.store, self._mailbox.job)

    def used(self) -> Used:
        """Return what this process used so far."""
        device = self._ranks.device
        clock, looks = self._clock.stopped(), self._looks
        on_gpu = device.type == "cuda"
        return Used(
            attempt=self._mailbox.attempt,
            number=self._ranks.number,
            node=self._ranks.number // self._ranks.local_count,
            cores=cores(),
            seconds=clock.seconds,
            cpu_seconds=clock.cpu_seconds,
            memory=peak_memory(),
            gpu=fmean(looks) if looks else None,
            gpu_memory=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        )

    def _watch(self, over: threading.Event) -> None:
        """Look at the GPU now and then, where there is one, and write now and then."""
        device, looks = self._ranks.device, 0
        while not over.wait(PERIOD):
            looks += 1
            if self._clock.stage == FIT and device.type == "cuda":
                self._looks += busy_share(device)
            if looks % KEPT_EVERY == 0:
                self.keep()


def read_used(store: Store, job: str) -> list[Used]:
    """Return what the processes of all attempts at a job kept so far."""
    found = []
    for info in store.list(attempts_prefix(job)):
        if info.key.rpartition("/")[2].startswith(FILE):
            try:
                found.append(Used.model_validate_json(store.get(info.key)))
            except ValidationError as error:  # of an attempt by another version of the program
                log.warning("%s is passed over: %s", info.key, error)
    return found


def busy_share(
    device: torch.device, *, ask: Callable[[torch.device], int] = torch.cuda.utilization
) -> list[float]:
    """Return how busy a GPU was in the last moment, 0..1; nothing where its driver does not say."""
    try:
        return [ask(device) / 100]
    except (NVMLError, RuntimeError) as error:  # a part of a GPU (MIG) has no such figure
        log.debug("the driver does not say how busy %s is: %s", device, error)
        return []


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


class _Clock(NamedTuple):
    """Seconds of the job's stages; replaced whole, as two threads read it."""

    seconds: dict[str, float]
    """By stage, of those that ended."""
    cpu_seconds: float
    """Of the fit stages that ended."""
    stage: str | None = None
    """That runs now."""
    began: float = 0.0
    cpu_began: float = 0.0

    def started(self, stage: str) -> "_Clock":
        return self._replace(stage=stage, began=time.monotonic(), cpu_began=time.process_time())

    def stopped(self) -> "_Clock":
        """Return it with what the running stage took so far."""
        if self.stage is None:
            return self
        spent = self.seconds.get(self.stage, 0.0) + time.monotonic() - self.began
        busy = time.process_time() - self.cpu_began if self.stage == FIT else 0.0
        return _Clock({**self.seconds, self.stage: spent}, self.cpu_seconds + busy)
