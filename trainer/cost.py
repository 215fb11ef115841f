"""What a run cost: what the processes of all its attempts used, added up."""

from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import Final

from bearloop.contract.record import Record
from bearloop.contract.runs import Cost
from trainer.checkpoint import FitState

FIT: Final = "fit"
"""The stage of the job whose use of the machine is a run's."""


class Used(Record):
    """What one process of one attempt used so far; None where nobody can tell."""

    attempt: str
    number: int
    """Of the process, among the run's."""
    node: int
    cores: int
    """That the process may run on."""
    seconds: dict[str, float]
    """Of each stage of the job that it came to, by name."""
    cpu_seconds: float
    """Of all its threads, in the fit stages."""
    memory: int
    """Bytes at its peak, in the machine."""
    gpu: float | None
    """Mean share of the fit stages' time in which its GPU was busy, 0..1."""
    gpu_memory: int | None
    """Bytes at the peak of what it held on its GPU."""

    @property
    def fit_seconds(self) -> float:
        """Return what its fit stages took."""
        return self.seconds.get(FIT, 0.0)


def cost_of(used: Sequence[Used], state: FitState) -> Cost:
    """Add up what all processes of all attempts used, and how fast the fit stages went."""
    nodes = _split(used, by=lambda one: one.node)
    together = _split(used, by=lambda one: (one.attempt, one.node))
    gpu_memory = [one.gpu_memory for one in used if one.gpu_memory is not None]
    return Cost(
        images_per_second=state.trained / state.train_seconds if state.train_seconds else None,
        cpu_utilisation=fmean(_busy_cores(node) for node in nodes),
        gpu_utilisation=_busy_gpus(used),
        peak_memory=max(sum(one.memory for one in processes) for processes in together),
        peak_gpu_memory=max(gpu_memory, default=None),
        stages=cost_stages(state),
    )


def job_seconds(used: Sequence[Used]) -> dict[str, float]:
    """Add up the seconds of each stage of the job over all attempts, as the first process saw them.

    What an attempt did and lost, for the next one to do again, is in it.
    """
    seconds: dict[str, float] = {}
    for one in used:
        for stage, spent in one.seconds.items() if one.number == 0 else ():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return seconds


def cost_stages(state: FitState) -> dict[str, float]:
    """Add up the seconds of each fit stage's epochs, beside a body's pass and searches of rates."""
    seconds = dict(state.seconds_beside)
    for epoch in state.epochs:
        seconds[epoch.stage] = seconds.get(epoch.stage, 0.0) + epoch.seconds
    return seconds


def _split(used: Sequence[Used], *, by: Callable[[Used], Hashable]) -> list[list[Used]]:
    return [[one for one in used if by(one) == key] for key in dict.fromkeys(map(by, used))]


def _busy_cores(node: Sequence[Used]) -> float:
    """Return the share of a node's cores that its processes kept busy, 0..1."""
    there = sum(
        max(one.fit_seconds for one in attempt) * max(one.cores for one in attempt)
        for attempt in _split(node, by=lambda one: one.attempt)
    )
    return sum(one.cpu_seconds for one in node) / there if there else 0.0


def _busy_gpus(used: Sequence[Used]) -> float | None:
    """Return the mean share over the GPUs, each attempt weighed by its time; None without any."""
    told = [(one.gpu, one.fit_seconds) for one in used if one.gpu is not None and one.fit_seconds]
    if not told:
        return None
    shares, seconds = zip(*told, strict=True)
    return fmean(shares, weights=seconds)
