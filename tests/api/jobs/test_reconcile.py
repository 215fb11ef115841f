"""One worker's steps, and several workers' steps, on a cluster that does what the test says."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from api.database import Database
from api.jobs.mailbox import Mailbox
from api.jobs.reconcile import (
    Workplace,
    claim_job,
    give_back,
    reconcile_job,
    remove_strays,
)
from api.jobs.states import JobState
from api.settings import Settings
from api.tables import Project
from bearloop.contract.jobs import Problem, Progress
from bearloop.store import FolderStore
from tests.fixtures.cluster import FakeCluster
from tests.fixtures.jobs import Desk, TallyKind, step, workplace


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def kind() -> TallyKind:
    return TallyKind()


@pytest.fixture
def desk(database: Database, store: FolderStore, project: Project) -> Desk:
    return Desk(database, store, project)


@pytest.fixture
def place(desk: Desk, cluster: FakeCluster, kind: TallyKind, settings: Settings) -> Workplace:
    return workplace(desk, cluster, kind, settings=settings)


def go_on(place: Workplace, desk: Desk, steps: int = 6) -> None:
    """Step until nothing is due, and on after every pause."""
    for _ in range(steps):
        desk.make_due()
        step(place)


class TestOneJob:
    def test_is_told_what_it_needs_and_nothing_of_the_database(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, project: Project
    ) -> None:
        job = desk.ask()
        assert step(place)
        (request,) = cluster.requests.values()
        assert request.name == f"import-{job}-1"
        assert request.environment == {
            "BEARLOOP_STORE_URL": f"{desk.store.url}/projects/{project.id}",
            "BEARLOOP_JOB": str(job),
        }
        assert desk.spec(job)["source"]["uri"] == "file:///nowhere"
        assert desk.row(job).state == JobState.launched

    def test_runs_ends_and_is_ingested_and_settled_once(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        step(place)
        attempt = cluster.begin(desk.name(job))
        go_on(place, desk, 2)
        assert (desk.row(job).state, desk.row(job).attempt) == (JobState.running, attempt)
        assert desk.row(job).started_at is not None
        desk.answer(job, attempt=attempt)
        cluster.finish(desk.name(job))
        go_on(place, desk)
        assert desk.row(job).state == JobState.done
        assert desk.row(job).finished_at is not None
        assert desk.ingested(job) == 1
        assert kind.settled == [(job, JobState.done)]
        assert cluster.jobs() == []
        assert not step(place)

    def test_shows_progress_and_keeps_the_log(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        attempt = cluster.begin(desk.name(job))
        progress = Progress(stage="fetch", done=2, total=5, at=datetime.now(UTC))
        desk.report(job, progress, attempt=attempt)
        cluster.printed[desk.name(job)] = "fetched two\n"
        go_on(place, desk, 1)
        shown = desk.row(job).progress
        assert shown is not None
        assert (shown["stage"], shown["done"], shown["total"]) == ("fetch", 2, 5)
        assert Mailbox(desk.mail, str(job)).log(1) == "fetched two\n"

    def test_shows_where_it_ended_and_not_where_it_was_last_seen(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        attempt = cluster.begin(desk.name(job))
        desk.report(
            job, Progress(stage="fetch", done=2, total=5, at=datetime.now(UTC)), attempt=attempt
        )
        go_on(place, desk, 1)
        desk.report(
            job, Progress(stage="fetch", done=5, total=5, at=datetime.now(UTC)), attempt=attempt
        )
        desk.answer(job, attempt=attempt)
        go_on(place, desk)
        shown = desk.row(job).progress
        assert shown is not None
        assert shown["done"] == 5

    def test_says_why_it_waits(self, place: Workplace, desk: Desk, cluster: FakeCluster) -> None:
        job = desk.ask()
        step(place)
        cluster.queue(desk.name(job), "waits for run 3 to end")
        go_on(place, desk, 1)
        assert desk.row(job).reason == "waits for run 3 to end"

    def test_an_input_at_fault_fails_with_the_problem_and_is_never_retried(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        step(place)
        attempt = cluster.begin(desk.name(job))
        problem = Problem(code="no_images", detail="no class has an image", way_out="add some")
        desk.answer(job, attempt=attempt, problem=problem)
        cluster.refuse(desk.name(job))
        go_on(place, desk)
        row = desk.row(job)
        assert (row.state, row.reason) == (JobState.failed, "no class has an image")
        assert row.problem == problem.model_dump(mode="json")
        assert list(cluster.requests) == [f"import-{job}-1"]
        assert kind.settled == [(job, JobState.failed)]

    def test_one_that_can_never_be_made_fails_with_the_reason(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        cluster.find_invalid("cannot create Job: spec.template.spec.tolerations[0].effect")
        job = desk.ask()
        go_on(place, desk)
        row = desk.row(job)
        assert (row.state, row.launch, cluster.launches) == (JobState.failed, 1, 1)
        assert row.reason == "cannot create Job: spec.template.spec.tolerations[0].effect"
        assert kind.settled == [(job, JobState.failed)]

    def test_is_launched_anew_after_crashes_up_to_the_limit(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        for launch, end in enumerate((cluster.crash, cluster.vanish, cluster.evict), 1):
            go_on(place, desk, 3)
            assert desk.row(job).launch == launch
            cluster.begin(desk.name(job))
            go_on(place, desk, 1)
            end(desk.name(job))
        go_on(place, desk)
        assert desk.row(job).state == JobState.failed
        assert "crash 3 of at most 3" in str(desk.row(job).reason)
        assert len(cluster.requests) == 3

    def test_an_interruption_is_not_counted(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        for _ in range(5):
            go_on(place, desk, 3)
            cluster.begin(desk.name(job))
            cluster.interrupt(desk.name(job))
        go_on(place, desk, 3)
        assert (desk.row(job).launch, desk.row(job).crashes) == (6, 0)

    def test_two_launches_are_never_there_at_once(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        cluster.begin(desk.name(job))
        cluster.crash(desk.name(job))
        for _ in range(5):
            desk.make_due()
            step(place)
            assert len(cluster.jobs()) <= 1
        assert desk.name(job) == f"import-{job}-2"

    def test_a_cancelled_one_leaves_the_cluster_first(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        step(place)
        cluster.begin(desk.name(job))
        desk.cancel(job)
        step(place)
        assert cluster.jobs() == []
        assert desk.row(job).state == JobState.launched
        go_on(place, desk)
        assert desk.row(job).state == JobState.cancelled
        assert kind.settled == [(job, JobState.cancelled)]


class TestTheClaim:
    def test_the_longest_due_is_taken_first(self, place: Workplace, desk: Desk) -> None:
        jobs = [desk.ask() for _ in range(3)]
        claimed = [claim_job(place) for _ in range(4)]
        assert [job.id if job else None for job in claimed] == [*jobs, None]

    def test_a_step_that_ends_well_gives_the_job_back(self, place: Workplace, desk: Desk) -> None:
        job = desk.ask()
        step(place)
        assert (desk.row(job).lease_owner, desk.row(job).lease_until) == (None, None)

    def test_a_claim_that_ran_out_is_taken_by_another(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        assert claim_job(place) is not None
        other = workplace(desk, cluster, kind, settings=place.settings, owner="second")
        assert claim_job(other) is None
        desk.expire(job)
        assert claim_job(other) is not None
        assert desk.row(job).lease_owner == "second"

    def test_a_void_claim_changes_nothing(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        stale = claim_job(place)
        assert stale is not None
        desk.expire(job)
        other = workplace(desk, cluster, kind, settings=place.settings, owner="second")
        step(other)
        cluster.begin(desk.name(job))
        before = desk.row(job)
        reconcile_job(place, stale)
        after = desk.row(job)
        assert (after.state, after.launch, after.epoch) == (
            before.state,
            before.launch,
            before.epoch,
        )
        assert cluster.launches == 1

    def test_a_step_that_failed_says_why_and_waits(self, place: Workplace, desk: Desk) -> None:
        job = desk.ask()
        claimed = claim_job(place)
        assert claimed is not None
        give_back(place, claimed, "the store does not answer")
        assert desk.row(job).reason == "the store does not answer"
        assert not step(place)
        desk.make_due()
        assert step(place)

    def test_a_load_longer_than_the_lease_is_not_taken_away(
        self, desk: Desk, cluster: FakeCluster, kind: TallyKind, settings: Settings
    ) -> None:
        short = settings.model_copy(
            update={"lease": timedelta(seconds=0.6), "call_deadline": timedelta(seconds=0.1)}
        )
        place = workplace(desk, cluster, kind, settings=short)
        other = workplace(desk, cluster, kind, settings=short, owner="second")
        job = desk.ask()
        step(place)
        desk.answer(job)
        cluster.finish(desk.name(job))
        taken = []

        def slow() -> None:
            deadline = datetime.now(UTC) + timedelta(seconds=1.5)
            while datetime.now(UTC) < deadline:
                taken.append(claim_job(other))
                Event().wait(0.05)

        kind.loading = slow
        desk.make_due()
        step(place)
        assert set(taken) == {None}
        assert desk.row(job).state == JobState.done


class TestSeveralWorkers:
    def test_a_stalled_worker_cannot_revive_a_cancelled_job(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        other = workplace(desk, cluster, kind, settings=place.settings, owner="second")
        cluster.hold()
        with ThreadPoolExecutor(1) as pool:
            stalled = pool.submit(step, place)
            cluster.await_held()
            desk.expire(job)
            desk.cancel(job)
            for _ in range(4):
                desk.make_due()
                step(other)
            assert desk.row(job).state == JobState.cancelled
            cluster.release()
            stalled.result(timeout=60)
        # The late launch is there; whoever compares takes it away, and nothing came of it.
        assert remove_strays(other) == [f"import-{job}-1"]
        assert cluster.jobs() == []
        assert desk.row(job).state == JobState.cancelled
        assert remove_strays(other) == []

    def test_a_stalled_worker_launches_nothing_twice(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        other = workplace(desk, cluster, kind, settings=place.settings, owner="second")
        cluster.hold()
        with ThreadPoolExecutor(1) as pool:
            stalled = pool.submit(step, place)
            cluster.await_held()
            desk.expire(job)
            step(other)
            cluster.release()
            stalled.result(timeout=60)
        assert list(cluster.requests) == [f"import-{job}-1"]
        assert cluster.launches == 2
        assert remove_strays(other) == []

    def test_two_that_load_one_result_ingest_it_once(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        step(place)
        desk.answer(job)
        cluster.finish(desk.name(job))
        desk.make_due()
        slow = claim_job(place)
        assert slow is not None
        other = workplace(desk, cluster, kind, settings=place.settings, owner="second")
        desk.expire(job)
        step(other)
        reconcile_job(place, slow)
        assert kind.loaded == [job, job]
        assert desk.ingested(job) == 1

    def test_an_old_launch_is_a_stray(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        step(place)
        desk.change(job, launch=2)
        assert remove_strays(place) == [f"import-{job}-1"]


class TestKilledBetween:
    def test_writing_the_launch_down_and_making_it(
        self, place: Workplace, desk: Desk, cluster: FakeCluster
    ) -> None:
        job = desk.ask()
        desk.change(job, state=JobState.launched, launch=1)
        step(place)
        assert list(cluster.requests) == [f"import-{job}-1"]

    def test_the_end_and_telling_the_world(
        self, place: Workplace, desk: Desk, cluster: FakeCluster, kind: TallyKind
    ) -> None:
        job = desk.ask()
        step(place)
        desk.change(job, state=JobState.done)
        go_on(place, desk, 3)
        assert kind.settled == [(job, JobState.done)]
        assert cluster.jobs() == []
