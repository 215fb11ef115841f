"""From a source to the specifications of its jobs, and which refused lines to try again."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bearloop.contract.imports import ImportSpec, Source

PASSING: Final = frozenset({"timeout", "connection", "dns", "tls", "bad_answer", "unreadable_file"})
"""Codes of refusals that may pass by themselves, beside HTTP's own."""
PASSING_STATUSES: Final = frozenset({408, 425, 429})


class Sharing(NamedTuple):
    """How imports are shared by pods."""

    most: int = 1
    """Pods at most."""
    per_shard: int = 20_000
    """Sources that are worth a pod more."""

    def shards(self, sources: int) -> int:
        """Return how many pods share so many sources."""
        return max(1, min(self.most, -(-sources // self.per_shard)))


class Terms(NamedTuple):
    """What holds for every job of an import."""

    project: str
    dataset: str
    allow_private_addresses: bool


def plan(
    source: Source, terms: Terms, *, jobs: Sequence[str], only: tuple[int, ...] | None = None
) -> list[ImportSpec]:
    """Deal the source to the jobs, one complete specification each.

    A single job takes the source whole. Several take known positions (`only`) in turns; without
    them just one job can read the source, as nobody knows yet how long it is.
    """
    if not jobs:
        raise ValueError("an import needs a job")
    if only is None and len(jobs) > 1:
        raise ValueError("a source of unknown length cannot be dealt to several jobs")
    return [
        ImportSpec(
            job=job,
            project=terms.project,
            dataset=terms.dataset,
            source=source,
            allow_private_addresses=terms.allow_private_addresses,
            only=None if only is None else only[turn :: len(jobs)],
        )
        for turn, job in enumerate(jobs)
    ]


def may_pass(code: str | None) -> bool:
    """Tell whether a refused source may succeed when it is tried again, unchanged."""
    if code is None or code in PASSING:
        return code is not None
    kind, _, number = code.partition("_")
    if kind != "http" or not number.isdecimal():
        return False
    status = int(number)
    return status in PASSING_STATUSES or status >= 500


def worth_retrying(refused: Iterable[tuple[int, str | None]]) -> tuple[int, ...]:
    """Pick from (position, code) pairs the positions that may succeed, in order."""
    return tuple(sorted(position for position, code in refused if may_pass(code)))
