"""One worker step of a job: claim it, observe it, decide, apply; repeating a step is harmless."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from api import leases
from api.cluster.protocol import Cluster, InvalidLaunchError, Phase, SeenJob
from api.database import Database
from api.jobs import decide as rules
from api.jobs import turns
from api.jobs.kinds import JobKind
from api.jobs.mailbox import Mailbox
from api.jobs.renewal import renewed
from api.jobs.request import request_of
from api.jobs.states import JobState, moved
from api.settings import Settings
from api.stores import below_project
from api.tables import Job, Project
from bearloop.contract import environment
from bearloop.contract.imports import ImportSpec
from bearloop.contract.jobs import Result
from bearloop.contract.runs import RunSpec
from bearloop.store import Store

WAITS_ON = 10
"""A job that waits, for the same as at the last look, is looked at every so many polls only: it is
made due when the cluster is heard to change it, and many that wait leave the others their turn."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Between a crash, or a step that failed, and the next try."""


@dataclass(frozen=True)
class Workplace:
    """What a step works with; built once, where the worker is wired."""

    owner: str
    """The worker's name on its claims."""
    settings: Settings
    database: Database
    store: Store
    """The root; each job sees it below its project's prefix."""
    cluster: Cluster
    kinds: Mapping[str, JobKind]


def claim_job(place: Workplace) -> Job | None:
    """Take the job that is due longest; None when none is."""
    with place.database.transaction() as session:
        return leases.claim(
            session,
            Job,
            owner=place.owner,
            lease=place.settings.lease,
            where=Job.finished_at.is_(None),
        )


def reconcile_job(place: Workplace, job: Job) -> None:
    """Observe the claimed job, decide, apply; the job is given back."""
    seen = place.cluster.job(_name(job)) if job.launch else None
    # The cluster first: an attempt that had ended by then had left its result before.
    view = view_of(job)
    result = _mailbox(place, job).result() if _may_have_result(view, seen) else None
    decision = rules.decide(view, seen, result, max_crashes=place.settings.max_crashes)
    _apply(place, job, decision=decision, seen=seen)


def make_due(place: Workplace) -> None:
    """Let the jobs that the cluster was heard to change be looked at now, before all others."""
    names = place.cluster.changed()
    ids = {UUID(rules.read_job_name(name)[0]) for name in names if rules.is_job_name(name)}
    if not ids:
        return
    # A queued one waits on purpose: for its turn, or for a while after a crash.
    waits_for_a_look = Job.finished_at.is_(None) & (Job.state != JobState.queued)
    with place.database.transaction() as session:
        session.execute(
            update(Job).where(Job.id.in_(ids), waits_for_a_look).values(due_at=leases.at_once())
        )


def give_back(place: Workplace, job: Job, reason: str) -> None:
    """Give up a step that failed: the job waits a little, and says why."""
    pause = min(place.settings.poll * WAITS_ON, LONGEST_PAUSE)
    changes = {} if JobState(job.state).is_terminal else {"reason": reason}
    _give(place, job, changes=changes, due_in=pause)


def remove_strays(place: Workplace) -> list[str]:
    """Compare all that is on the cluster with the rows; remove what has no right to be there."""
    # The cluster first: a launch is written to its row before it is created.
    names = [seen.name for seen in place.cluster.jobs()]
    launches = {name: rules.read_job_name(name) for name in names}
    with place.database.transaction() as session:
        ids = {UUID(job_id) for job_id, _ in launches.values()}
        rows = {str(job.id): job for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
    removed = []
    for name, (job_id, launch) in launches.items():
        job = rows.get(job_id)
        view = view_of(job) if job else None
        if rules.is_stray(view, launch, finished=job is not None and job.finished_at is not None):
            place.cluster.remove(name)
            removed.append(name)
    return removed


def view_of(job: Job) -> rules.JobView:
    """Return what the rules need of a row."""
    return rules.JobView(
        state=JobState(job.state),
        launch=job.launch,
        crashes=job.crashes,
        attempt=job.attempt,
        cancel_asked=job.cancel_asked,
    )


def _may_have_result(job: rules.JobView, seen: SeenJob | None) -> bool:
    if job.state.is_terminal or job.cancel_asked:
        return False
    waits = seen is not None and seen.phase is Phase.pending and job.attempt is None
    return job.launch > 0 and not waits


def _apply(place: Workplace, job: Job, *, decision: rules.Decision, seen: SeenJob | None) -> None:
    poll = place.settings.poll
    match decision:
        case rules.Wait():
            _write_down(place, job, decision, seen=seen)
        case rules.Launch(number):
            _launch(place, job, number)
        case rules.Ingest(result):
            _ingest(place, job, result)
        case rules.Fail(reason, problem):
            _keep_log(place, job)
            said = problem.model_dump(mode="json") if problem else None
            _move(place, job, JobState.failed, reason=reason, problem=said)
        case rules.Relaunch(counted, reason):
            _keep_log(place, job)
            crashes = job.crashes + counted
            pause = min(poll * 2**crashes, LONGEST_PAUSE) if counted else timedelta(0)
            lost = {"reason": reason, "crashes": crashes, "attempt": None}
            _move(place, job, JobState.queued, due_in=pause, **lost)
        case rules.Remove():
            _keep_log(place, job)  # what it printed after its result, too
            place.cluster.remove(_name(job))
            # Where its node is lost it stays for long, and who cancelled it should know.
            waits = job.cancel_asked and not JobState(job.state).is_terminal
            told = {"reason": seen.reason} if waits and seen and seen.reason else {}
            _give(place, job, changes=told, due_in=poll)
        case rules.Cancel():
            _move(place, job, JobState.cancelled, reason=None)
        case rules.Settle():
            place.kinds[job.kind].settle(job, JobState(job.state))
            _give(place, job, changes={"finished_at": func.now()})


def _write_down(place: Workplace, job: Job, decision: rules.Wait, *, seen: SeenJob | None) -> None:
    changes: dict[str, Any] = {"attempt": decision.attempt, "reason": decision.reason}
    if decision.state is JobState.running and job.started_at is None:
        changes["started_at"] = func.now()
    progress = _mailbox(place, job).progress(decision.attempt) if decision.attempt else None
    said = progress.model_dump(mode="json") if progress else job.progress
    leaves = seen is not None and seen.leaving
    if leaves or said != job.progress or decision.reason != job.reason:
        changes["progress"] = said
        _keep_log(place, job)
    waits = seen is not None and seen.phase is Phase.pending
    due_in = _while_waiting(place, job, decision.reason) if waits else place.settings.poll
    _move(place, job, decision.state, due_in=due_in, **changes)


def _while_waiting(place: Workplace, job: Job, reason: str | None) -> timedelta:
    return place.settings.poll * (WAITS_ON if reason == job.reason else 2)


def _launch(place: Workplace, job: Job, number: int) -> None:
    lease = place.settings.lease
    changes = {
        "state": moved(JobState(job.state), JobState.launched),
        "launch": number,
        "attempt": None,
    }
    with place.database.transaction() as session:
        waits = turns.why_not_yet(session, job) if job.state == JobState.queued else None
        if waits is not None:
            due_in = _while_waiting(place, job, waits)
            leases.apply(session, job, changes={"reason": waits}, due_in=due_in)
            return
        if not leases.keep(session, job, changes=changes, lease=lease):
            return
    kind = place.kinds[job.kind]
    with renewed(place.database, job, lease=lease):
        spec = kind.prepare(job)
        _mailbox(place, job).put_spec(spec)
    with place.database.transaction() as session:
        # A worker that stalls from here on may still create the launch, long after somebody else
        # went on: `remove_strays` takes it away again, and its result would come too late.
        if not leases.holds(session, job, at_least=place.settings.call_deadline):
            return
        queue = session.scalar(select(Project.queue).where(Project.id == job.project_id))
    told = _told(place, job, spec)
    request = request_of(job, spec, number=number, program=kind.program, told=told, queue=queue)
    try:
        place.cluster.launch(request)
    except InvalidLaunchError as error:
        _move(place, job, JobState.failed, reason=str(error))
        return
    _give(place, job)


def _ingest(place: Workplace, job: Job, result: Result) -> None:
    kind = place.kinds[job.kind]
    with renewed(place.database, job, lease=place.settings.lease):
        _keep_log(place, job)
        assert result.output is not None, "a result that is done has an output"
        loaded = kind.load(job, result.output)
        # What the last look saw may be a second old: it would stay so for ever.
        progress = _mailbox(place, job).progress(result.attempt)
    state = moved(JobState(job.state), JobState.done)
    with place.database.transaction() as session:
        changes = {
            "state": state,
            "reason": None,
            "attempt": result.attempt,
            "progress": progress.model_dump(mode="json") if progress else job.progress,
        }
        if leases.apply(session, job, changes=changes):
            kind.ingest(session, job, loaded)


def _move(
    place: Workplace,
    job: Job,
    state: JobState,
    *,
    due_in: timedelta = timedelta(0),
    **changes: Any,
) -> None:
    changes["state"] = moved(JobState(job.state), state)
    _give(place, job, changes=changes, due_in=due_in)


def _give(
    place: Workplace,
    job: Job,
    *,
    changes: Mapping[str, Any] | None = None,
    due_in: timedelta = timedelta(0),
) -> None:
    with place.database.transaction() as session:
        leases.apply(session, job, changes=dict(changes or {}), due_in=due_in)


def _keep_log(place: Workplace, job: Job) -> None:
    _mailbox(place, job).keep_logs(job.launch, place.cluster.logs(_name(job)))


def _mailbox(place: Workplace, job: Job) -> Mailbox:
    return Mailbox(below_project(place.store, job.project_id), str(job.id))


def _name(job: Job) -> str:
    return rules.job_name(job.kind, str(job.id), job.launch)


def _told(place: Workplace, job: Job, spec: ImportSpec | RunSpec) -> dict[str, str]:
    told = {
        environment.STORE_URL: below_project(place.store, job.project_id).url,
        environment.JOB: str(job.id),
    }
    if isinstance(spec, RunSpec) and spec.tracking:
        told[environment.TRACKING_URI] = place.settings.tracking_url
    return told
