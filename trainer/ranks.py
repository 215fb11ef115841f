"""The processes that train one run together, seen from one of them.

A recipe's batch is that of all processes: each takes its share of every batch, gradients are
averaged over the whole batch, and BatchNorm takes its statistics over it. So a run agrees with
itself on one process but for the order of additions, and for what is drawn at random for a picture
(augmentation, dropout), which each process draws for its own share.

The first process alone speaks: progress, checkpoints, MLflow, report and bundle are its.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from bearloop.contract.runs import RunSpec
from trainer.device import choose_device, sees_gpus, too_few_gpus
from trainer.errors import InputError, InterruptedRunError
from trainer.mailbox import Mailbox
from trainer.scratch import Room, in_memory
from trainer.settings import RankSettings, read_rank
from trainer.shared_norm import share_statistics

LEAST_SHARE: Final = 2
"""Pictures of a batch that each process takes at least: BatchNorm needs the variance of some."""
PORT: Final = 29500
"""On the first pod of a run on several nodes, where the others find it; torch's own."""
JOINING: Final = timedelta(minutes=30)
"""How long a pod waits for the others to be scheduled and pulled."""
CHUNK_BYTES: Final = 16 * 1024 * 1024
"""That a process sends at a time of what is too much for memory."""
PATIENCE: Final = timedelta(days=1)
"""While others may be at something long: decoding a million pictures, predicting them."""
log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


class StrayedError(Exception):
    """The processes do not stand at the same step: a crash, after which all begin again."""


@dataclass(frozen=True)
class Ranks:
    """This process, and those it trains with; alone, nothing here costs or changes anything."""

    device: torch.device
    number: int = 0
    count: int = 1
    local: int = 0
    """Which of this node's processes it is."""
    local_count: int = 1
    patient: "dist.ProcessGroup | None" = None
    """For waiting on what may take hours."""

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all."""
        return self.number == 0

    @property
    def least_batch(self) -> int:
        """Pictures that a batch must have."""
        return LEAST_SHARE * self.count

    def share(self, rows: Rows) -> Rows:
        """Return this process's share, neighbours; the shares differ by one at most."""
        return np.array_split(rows, self.count)[self.number] if self.count > 1 else rows

    def learner(self, model: nn.Module) -> nn.Module:
        """Return what to call in training: its backward pass averages over the processes."""
        if self.count == 1:
            return model
        # No parameter is unused. But torch then leaves the buckets of gradients as they are, and
        # else makes new ones behind a learner's first step. A sum over three processes or more is
        # rounded by its place in a bucket, and a resumed run's learner begins at another step.
        return DistributedDataParallel(
            model,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=True,
        )

    def share_statistics(self, model: nn.Module) -> None:
        """Let BatchNorm see the whole batch."""
        if self.count > 1:
            share_statistics(model, device=self.device)

    def weighed(self, loss: Tensor, *, own: int, of: int) -> Tensor:
        """Weigh the mean loss of `own` pictures: averaged gradients become those of all `of`."""
        return loss if self.count == 1 else loss * (own * self.count / of)

    def mean_loss(self, loss: float, *, own: int, of: int) -> float:
        """Return the mean over all processes' pictures, the same on each."""
        if self.count == 1:
            return loss
        total = torch.tensor([loss * own], dtype=torch.float64)
        dist.all_reduce(total)
        return float(total.item()) / of

    def any(self, asked: bool) -> bool:
        """Tell whether any process says yes: all hear the same."""
        if self.count == 1:
            return asked
        flag = torch.tensor([int(asked)])
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def wait(self) -> None:
        """Return when all have come here, however long one of them works."""
        if self.count > 1:
            dist.barrier(self.patient)

    @contextmanager
    def first_of_node_first(self) -> Iterator[None]:
        """Let one process of each node do what is inside, then the others find what it made."""
        if self.local:
            self.wait()
        yield
        if not self.local:
            self.wait()

    def gathered(
        self, own: NDArray[np.float32], *, room: Room = in_memory, chunk_bytes: int = CHUNK_BYTES
    ) -> NDArray[np.float32]:
        """Join every process's rows [n, …], the first one's first; all get them, in a `room`.

        Beside it no more than a chunk of each process is in memory.
        """
        if self.count == 1:
            return own
        sizes = self._gathered_sizes(len(own))
        starts = np.cumsum([0, *sizes])
        joined = room((sum(sizes), *own.shape[1:]))
        step = max(1, chunk_bytes // max(1, own[:1].nbytes))
        for done in range(0, max(sizes), step):
            part = own[done : done + step]
            # All send equally much.
            padded = torch.zeros(min(step, max(sizes) - done), *own.shape[1:])
            padded[: len(part)] = torch.from_numpy(part)
            parts = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(parts, padded, group=self.patient)
            for start, size, found in zip(starts, sizes, parts, strict=False):
                there = found[: max(0, size - done)].numpy()
                joined[start + done : start + done + len(there)] = there
        return joined

    def joined(self, own: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill each one's NaN rows [n, …] with what another process has there; all get them."""
        if self.count == 1:
            return own
        filled = torch.from_numpy(np.where(np.isnan(own), -np.inf, own))
        dist.all_reduce(filled, dist.ReduceOp.MAX, group=self.patient)
        return filled.numpy()

    def check_together(self, steps: int) -> None:
        """Raise StrayedError unless all stand at the same step."""
        if self.count > 1 and len(set(self._gathered_sizes(steps))) > 1:
            raise StrayedError("the processes read different checkpoints")

    def check_batches(self, spec: RunSpec, *, pictures: int, valid: int | None) -> None:
        """Raise InputError where so many processes cannot share the batches, or the valid images.

        `pictures` are those that are learnt from; `valid` None: nothing is held out.
        """
        least = self.least_batch
        recipe = spec.recipe
        sizes = [recipe.during(stage).batch_size for _, stage in recipe.fits()]
        size = min(recipe.batch_size, pictures, *sizes)
        if self.count > 1 and size < least:
            raise self._too_many(
                spec, f"batches of {size} pictures", f"a batch needs {least} pictures or more"
            )
        if valid is not None and valid < self.count > 1:
            raise self._too_many(
                spec, f"{valid} valid images", f"{self.count} valid images or more are needed"
            )

    def _too_many(self, spec: RunSpec, what: str, needed: str) -> InputError:
        return InputError(
            "too_many_processes",
            f"{self.count} processes cannot share {what}",
            field="nodes" if spec.nodes > 1 else "gpus",
            value=str(spec.nodes if spec.nodes > 1 else spec.gpus),
            way_out=f"{needed}: ask for fewer GPUs and nodes",
        )

    def _gathered_sizes(self, own: int) -> list[int]:
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([own]), group=self.patient)
        return [int(size.item()) for size in sizes]


def alone(device: torch.device | None = None) -> Ranks:
    """Return the only process of a run."""
    return Ranks(torch.device("cpu") if device is None else device)


@contextmanager
def joined(spec: RunSpec, mailbox: Mailbox) -> Iterator[Ranks]:
    """Join the run's other processes for as long as it takes; raises InputError without GPUs.

    A process that leaves says so in the mailbox: to the others its silence is a broken connection.
    """
    place = read_rank()
    if place is None:
        yield alone(choose_device(spec))
        return
    ranks, has_left, leave = _join(spec, mailbox, place)
    try:
        yield ranks
    except (InputError, InterruptedRunError):
        leave()
        raise
    except RuntimeError as error:
        if not has_left():
            raise
        raise InterruptedRunError("another process of the run left") from error


def _join(
    spec: RunSpec, mailbox: Mailbox, place: RankSettings
) -> tuple[Ranks, Callable[[], bool], Callable[[], None]]:
    store, number, count = _meet(spec, place)
    device = _agreed_device(spec, place, store=store, number=number, count=count)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=number,
        world_size=count,
        timeout=place.node.timeout,
    )
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(patient, dist.ProcessGroup), "all processes are in it"
    if number == 0:
        store.set("attempt", mailbox.attempt)
    left = mailbox.left_key(store.get("attempt").decode())
    log.info("process %d of %d, on %s", number + 1, count, device)
    ranks = Ranks(device, number, count, place.local, place.local_count, patient)
    return ranks, lambda: mailbox.store.exists(left), lambda: mailbox.store.put(left, b"")


def _meet(spec: RunSpec, place: RankSettings) -> tuple[Store, int, int]:
    """Find the others; return what all can write to, this one's number, and how many there are."""
    node = place.node
    if node.master is None:
        met: tuple[Store, int, int] = next(rendezvous("env://", timeout=node.timeout))
        return met
    number = node.index * place.local_count + place.local
    count = spec.nodes * place.local_count
    store = TCPStore(node.master, PORT, count, is_master=number == 0, timeout=JOINING)
    store.set_timeout(node.timeout)
    return store, number, count


def _agreed_device(
    spec: RunSpec, place: RankSettings, *, store: Store, number: int, count: int
) -> torch.device:
    """Take CUDA where every process has a GPU of its own; a mixture could not average."""
    own = spec.device != "cpu" and sees_gpus(place.local_count)
    store.set(f"gpu/{number}", str(int(own)))
    everywhere = all(store.get(f"gpu/{other}") == b"1" for other in range(count))
    if everywhere:
        return torch.device("cuda", place.local)
    if spec.device == "cuda":
        raise too_few_gpus(spec, place.local_count)
    return torch.device("cpu")
