"""The project's quota of GPUs, where no Kueue keeps one: who may be launched, who waits; pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A run of the project that uses GPUs, or waits for some."""

    run: int
    """Its number."""
    gpus: int
    """Of all its pods together."""


def why_waiting(
    run: Share, *, quota: int | None, using: Sequence[Share], before: Sequence[Share]
) -> str | None:
    """Say in words why the run is not launched yet; None: it may be.

    `using` are launched. `before` wait and are older: what they ask for is kept for them, or a run
    that asks for many GPUs would be overtaken for ever.
    """
    if quota is None or run.gpus == 0:
        return None
    if run.gpus > quota:
        return (
            f"asks for {_gpus(run.gpus)}, and the project's quota is {quota}: "
            "cancel it, or have the operator raise the quota"
        )
    used = sum(share.gpus for share in using)
    if used + run.gpus > quota:
        return f"waits for the project's quota: {used} of {_gpus(quota)} in use" + (
            f" by {_named(using)}" if using else ""
        )
    if used + sum(share.gpus for share in before) + run.gpus > quota:
        verb = "waits" if len(before) == 1 else "wait"
        return f"waits for the project's quota: {_named(before)} {verb} for GPUs already"
    return None


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _named(shares: Sequence[Share]) -> str:
    names = [f"run {share.run}" for share in sorted(shares, key=lambda share: share.run)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
