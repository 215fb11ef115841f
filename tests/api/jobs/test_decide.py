"""The rules of a job's life, on values alone."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cluster.protocol import Phase, SeenJob
from api.jobs.decide import (
    Cancel,
    Decision,
    Fail,
    Ingest,
    JobView,
    Launch,
    Relaunch,
    Remove,
    Settle,
    Wait,
    decide,
    is_stray,
    job_name,
    read_job_name,
)
from api.jobs.states import MOVES, TERMINAL, ForbiddenMoveError, JobState, moved
from bearloop.contract.imports import ImportOutput
from bearloop.contract.jobs import Problem, Result

NEW = JobView(state=JobState.queued, launch=0, crashes=0, attempt=None)
LAUNCHED = JobView(state=JobState.launched, launch=1, crashes=0, attempt=None)
RUNNING = JobView(state=JobState.running, launch=1, crashes=0, attempt="a")
DONE = Result(
    job="j",
    attempt="a",
    outcome="done",
    output=ImportOutput(ledger_key="l", stored=0, duplicates=0, refused=0),
)
REFUSED = Result(
    job="j",
    attempt="a",
    outcome="input_at_fault",
    problem=Problem(code="no_images", detail="no class has an image"),
)


def seen(phase: Phase, exit_code: int | None = None) -> SeenJob:
    return SeenJob("run-j-1", phase, exit_code, "a")


def decided(job: JobView, cluster: SeenJob | None = None, result: Result | None = None) -> Decision:
    return decide(job, cluster, result, max_crashes=3)


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_only_the_moves_of_the_table_are_made(old: JobState, new: JobState) -> None:
    if new is old or new in MOVES[old]:
        assert moved(old, new) is new
    else:
        with pytest.raises(ForbiddenMoveError):
            moved(old, new)


def test_nothing_follows_an_end() -> None:
    assert set(TERMINAL) == {JobState.done, JobState.failed, JobState.cancelled}
    assert [state for state in JobState if state.is_terminal] == list(TERMINAL)


@pytest.mark.parametrize(
    ("job", "cluster", "result", "expected"),
    [
        (NEW, None, None, Launch(1)),
        (replace(NEW, launch=2, crashes=1), None, None, Launch(3)),
        # A launch that was given up is still there: nothing else begins.
        (replace(NEW, launch=2), seen(Phase.failed, 1), None, Remove()),
        # Written down, not created: the worker was killed between the two.
        (LAUNCHED, None, None, Launch(1)),
        (LAUNCHED, seen(Phase.pending), None, Wait(JobState.launched, None, None)),
        (LAUNCHED, seen(Phase.running), None, Wait(JobState.running, "a", None)),
        (RUNNING, seen(Phase.running), None, Wait(JobState.running, "a", None)),
        (RUNNING, seen(Phase.succeeded, 0), DONE, Ingest(DONE)),
        (LAUNCHED, seen(Phase.succeeded, 0), DONE, Ingest(DONE)),
        (RUNNING, None, DONE, Ingest(DONE)),
        (replace(NEW, launch=1), seen(Phase.failed, 1), DONE, Ingest(DONE)),
        (
            RUNNING,
            seen(Phase.failed, 42),
            REFUSED,
            Fail("no class has an image", REFUSED.problem),
        ),
        (
            RUNNING,
            seen(Phase.failed, 75),
            None,
            Relaunch(counted=False, reason="it was interrupted and goes on from its checkpoint"),
        ),
        (
            RUNNING,
            seen(Phase.failed, 137),
            None,
            Relaunch(counted=True, reason="it crashed with exit code 137"),
        ),
        # Crashes that are left change nothing: the next launch would take as long.
        (
            RUNNING,
            replace(seen(Phase.failed), overdue=True, reason="it took longer than 2:00:00"),
            None,
            Fail("it took longer than 2:00:00; train again with a longer `deadline`, or with none"),
        ),
        (RUNNING, replace(seen(Phase.failed), overdue=True), DONE, Ingest(DONE)),
        (
            RUNNING,
            seen(Phase.succeeded, 0),
            None,
            Relaunch(counted=True, reason="it ended well but left no result"),
        ),
        (
            RUNNING,
            None,
            None,
            Relaunch(counted=True, reason="it vanished from the cluster"),
        ),
        (
            replace(RUNNING, crashes=2),
            seen(Phase.failed, 1),
            None,
            Fail("it crashed with exit code 1; that was crash 3 of at most 3"),
        ),
        (replace(RUNNING, cancel_asked=True), seen(Phase.running), None, Remove()),
        (replace(RUNNING, cancel_asked=True), None, None, Cancel()),
        (replace(NEW, cancel_asked=True), None, None, Cancel()),
        (replace(RUNNING, state=JobState.done), seen(Phase.succeeded, 0), DONE, Remove()),
        (replace(RUNNING, state=JobState.done), None, None, Settle()),
    ],
)
def test_what_follows_from_what_is_seen(
    job: JobView, cluster: SeenJob | None, result: Result | None, expected: Decision
) -> None:
    assert decided(job, cluster, result) == expected


def test_an_input_at_fault_without_a_word_is_not_retried() -> None:
    assert isinstance(decided(RUNNING, seen(Phase.failed, 42)), Fail)


def test_interruptions_never_use_up_the_limit() -> None:
    weary = replace(RUNNING, launch=90, crashes=2)
    assert isinstance(decided(weary, seen(Phase.failed, 75)), Relaunch)


@pytest.mark.parametrize(
    ("job", "launch", "finished", "expected"),
    [
        (RUNNING, 1, False, False),
        (replace(RUNNING, launch=2), 1, False, True),
        (replace(RUNNING, state=JobState.cancelled), 1, True, True),
        # The step that settles it removes it.
        (replace(RUNNING, state=JobState.done), 1, False, False),
        (None, 1, False, True),
    ],
)
def test_a_launch_that_is_old_or_of_an_ended_job_is_a_stray(
    job: JobView | None, launch: int, finished: bool, expected: bool
) -> None:
    assert is_stray(job, launch, finished=finished) is expected


def test_a_name_tells_job_and_launch() -> None:
    job_id = "0f0e6f0a-0000-4000-8000-00000000000a"
    assert read_job_name(job_name("import", job_id, 12)) == (job_id, 12)


class World:
    """A row and a cluster of one job, to which decisions are applied."""

    def __init__(self, job: JobView, cluster: SeenJob | None, result: Result | None) -> None:
        self.job, self.cluster, self.result, self.finished = job, cluster, result, False

    def step(self) -> Decision:
        decision = decided(self.job, self.cluster, self.result)
        match decision:
            case Wait(state, attempt, _):
                self._move(state, attempt=attempt)
            case Launch(number):
                self._move(JobState.launched, launch=number, attempt=None)
                self.cluster = SeenJob(f"run-j-{number}", Phase.pending)
            case Ingest():
                self._move(JobState.done)
            case Fail():
                self._move(JobState.failed)
            case Relaunch(counted, _):
                crashes = self.job.crashes + counted
                self._move(JobState.queued, crashes=crashes, attempt=None)
            case Remove():
                self.cluster = None
            case Cancel():
                self._move(JobState.cancelled)
            case Settle():
                self.finished = True
        return decision

    def _move(self, state: JobState, **changes: object) -> None:
        moved(self.job.state, state)
        self.job = replace(self.job, state=state, **changes)  # type: ignore[arg-type]


jobs = st.builds(
    JobView,
    state=st.sampled_from(JobState),
    launch=st.integers(1, 4),
    crashes=st.integers(0, 2),
    attempt=st.sampled_from([None, "a"]),
    cancel_asked=st.booleans(),
)
clusters = st.none() | st.builds(
    SeenJob,
    name=st.just("run-j-1"),
    phase=st.sampled_from(Phase),
    exit_code=st.sampled_from([None, 0, 1, 42, 75]),
    attempt=st.just("a"),
    overdue=st.booleans(),
)


@given(job=jobs, cluster=clusters, result=st.sampled_from([None, DONE, REFUSED]))
def test_every_life_comes_to_rest_and_deciding_again_changes_nothing(
    job: JobView, cluster: SeenJob | None, result: Result | None
) -> None:
    world = World(job, cluster, result)
    for _ in range(6):
        decision = world.step()
        if isinstance(decision, Wait) or world.finished:
            break
    else:
        pytest.fail(f"still {decision}")
    before = (world.job, world.cluster)
    again = world.step()
    assert isinstance(again, Wait | Settle)
    assert (world.job, world.cluster) == before


@given(job=jobs, cluster=clusters, result=st.sampled_from([None, DONE, REFUSED]))
def test_a_cancelled_job_is_never_launched(
    job: JobView, cluster: SeenJob | None, result: Result | None
) -> None:
    decision = decided(replace(job, cancel_asked=True), cluster, result)
    assert isinstance(decision, Remove | Cancel | Settle)
