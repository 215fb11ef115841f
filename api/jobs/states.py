"""Where a job is in its life, and the moves that are allowed; everything else is refused."""

import enum
from collections.abc import Mapping


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    queued = "queued"
    """Waits for its next launch; nothing of it runs."""
    launched = "launched"
    """Has a name on the cluster; no attempt of this launch was seen running."""
    running = "running"
    done = "done"
    """Its result is in the tables."""
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Tell whether nothing follows."""
        return not MOVES[self]


MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.queued: frozenset(
        {JobState.launched, JobState.done, JobState.failed} | {JobState.cancelled}
    ),
    JobState.launched: frozenset(
        {JobState.running, JobState.queued, JobState.done, JobState.failed, JobState.cancelled}
    ),
    JobState.running: frozenset(
        {JobState.queued, JobState.done, JobState.failed, JobState.cancelled}
    ),
    JobState.done: frozenset(),
    JobState.failed: frozenset(),
    JobState.cancelled: frozenset(),
}
"""State -> what may follow. Back to queued: the launch was lost, the next one comes."""

TERMINAL = tuple(state for state in JobState if not MOVES[state])


class ForbiddenMoveError(Exception):
    """A move that is not in the table: an error of ours."""


def moved(old: JobState, new: JobState) -> JobState:
    """Return `new` when the table allows it; to stay is always allowed."""
    if new != old and new not in MOVES[old]:
        raise ForbiddenMoveError(f"a job that is {old} cannot become {new}")
    return new
