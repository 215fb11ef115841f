"""What to do about a job: from the row, the cluster and the mailbox to one decision; pure."""

import re
from dataclasses import dataclass
from typing import Final

from api.cluster.protocol import Phase, SeenJob
from api.jobs.states import JobState
from bearloop.contract.jobs import ExitCode, Problem, Result

NAME: Final = re.compile(r"[a-z]+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]+")
"""Of a launch: kind, the job's id, number."""


@dataclass(frozen=True)
class JobView:
    """What the decision needs of the row."""

    state: JobState
    launch: int
    crashes: int
    attempt: str | None
    """Of the present launch, once it was seen."""
    cancel_asked: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing to do but to write down what was seen."""

    state: JobState
    attempt: str | None
    reason: str | None


@dataclass(frozen=True)
class Launch:
    """Write the launch's number down, then create it; a number already written is created again."""

    number: int


@dataclass(frozen=True)
class Ingest:
    """Bring the result into the tables; the job is done."""

    result: Result


@dataclass(frozen=True)
class Fail:
    """Give up, and say why."""

    reason: str
    problem: Problem | None = None


@dataclass(frozen=True)
class Relaunch:
    """This launch is lost; back to the queue, counted against the limit or not."""

    counted: bool
    reason: str


@dataclass(frozen=True)
class Remove:
    """Take the launch off the cluster and look again: nothing may follow while it is there."""


@dataclass(frozen=True)
class Cancel:
    """Nothing of it runs: it is cancelled."""


@dataclass(frozen=True)
class Settle:
    """The job ended and is off the cluster: tell the outside world, then never look again."""


Decision = Wait | Launch | Ingest | Fail | Relaunch | Remove | Cancel | Settle


def decide(
    job: JobView, seen: SeenJob | None, result: Result | None, *, max_crashes: int
) -> Decision:
    """Compare the row with `seen`, the cluster's job of its present launch, and the mailbox.

    The result must have been read after the cluster was observed, so that an ended attempt
    without a result has really left none.
    """
    if job.state.is_terminal:
        return Remove() if seen else Settle()
    if job.cancel_asked:
        return Remove() if seen else Cancel()
    if result is not None:
        return _ended_by(result)
    if job.state is JobState.queued:
        # A launch that was given up goes first: two attempts never run at once.
        return Remove() if seen else Launch(job.launch + 1)
    if seen is None and job.state is JobState.launched and job.attempt is None:
        return Launch(job.launch)
    if seen is None:
        return _crash(job, "it vanished from the cluster", max_crashes=max_crashes)
    return _by_phase(job, seen, max_crashes=max_crashes)


def is_stray(job: JobView | None, launch: int, *, finished: bool) -> bool:
    """Tell whether a launch on the cluster has no right to be there.

    A worker that stalled between its last look at the lease and the call may create a launch of a
    job that was cancelled or launched anew in the meantime.
    """
    return job is None or finished or launch < job.launch


def job_name(kind: str, job_id: str, launch: int) -> str:
    """Name a launch on the cluster, so that creating it twice is creating it once."""
    return f"{kind}-{job_id}-{launch}"


def is_job_name(name: str) -> bool:
    """Tell whether `job_name` may have made a name: a deployment's is another."""
    return NAME.fullmatch(name) is not None


def read_job_name(name: str) -> tuple[str, int]:
    """Return the job's id and the launch's number of a name that `job_name` made."""
    stem, _, launch = name.rpartition("-")
    return stem.partition("-")[2], int(launch)


def _ended_by(result: Result) -> Decision:
    if result.outcome == "done":
        return Ingest(result)
    detail = result.problem.detail if result.problem else "the input is at fault"
    return Fail(detail, result.problem)


def _by_phase(job: JobView, seen: SeenJob, *, max_crashes: int) -> Decision:
    match seen.phase:
        case Phase.pending:
            return Wait(job.state, job.attempt, seen.reason)
        case Phase.running:
            return Wait(JobState.running, seen.attempt, seen.reason)
        case Phase.succeeded:
            return _crash(job, "it ended well but left no result", max_crashes=max_crashes)
        case Phase.failed:
            return _by_exit_code(job, seen, max_crashes=max_crashes)


def _by_exit_code(job: JobView, seen: SeenJob, *, max_crashes: int) -> Decision:
    if seen.overdue:
        why = seen.reason or "it took longer than its deadline"
        return Fail(f"{why}; train again with a longer `deadline`, or with none")
    if seen.exit_code == ExitCode.input_at_fault:
        return Fail("the input is at fault, but the job left no word on it; its log may tell")
    if seen.exit_code == ExitCode.interrupted or seen.disrupted:
        why = f"{seen.reason}; it" if seen.reason else "it was interrupted and"
        return Relaunch(counted=False, reason=f"{why} goes on from its checkpoint")
    if seen.exit_code is None:
        return _crash(job, seen.reason or "it vanished", max_crashes=max_crashes)
    why = seen.reason or f"it crashed with exit code {seen.exit_code}"
    return _crash(job, why, max_crashes=max_crashes)


def _crash(job: JobView, reason: str, *, max_crashes: int) -> Decision:
    if job.crashes + 1 >= max_crashes:
        return Fail(f"{reason}; that was crash {job.crashes + 1} of at most {max_crashes}")
    return Relaunch(counted=True, reason=reason)
