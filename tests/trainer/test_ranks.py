"""Several processes train one run: they agree with one process, and end as one."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from bearloop.contract import environment
from bearloop.contract.jobs import ExitCode, checkpoint_prefix, result_key
from bearloop.contract.recipes import CacheStage, EvaluateStage, Recipe
from bearloop.contract.runs import Curves, RunSpec
from bearloop.store import FolderStore
from tests.trainer.runs import CPU, model_of, open_run
from tests.trainer.team import fit_all, take_gradient, trained
from tests.trainer.test_job import DEADLINE, Job
from tests.trainer.versions import pictures, put_spec, put_version, recipe, resnet, whole
from trainer.errors import InputError
from trainer.launcher import CRASHED, outcome
from trainer.order import batches, step_seed
from trainer.ranks import Ranks, alone

EVALUATE = EvaluateStage(folds=2, tta_views=1)
GENTLE = recipe(CacheStage(presize=32), whole(2, lr=1e-6), EVALUATE)
"""At this rate a rounding error of a gradient stays one: at a higher one AdamW, which divides a
gradient by its size, makes a whole step of it."""


def shared(store: FolderStore, recipe: Recipe, *, nodes: int = 2, train: int = 7) -> RunSpec:
    """Put a version whose batches do not divide evenly."""
    spec = put_version(store, pictures(train=train, valid=3), recipe=recipe)
    spec = spec.model_copy(update={"nodes": nodes})
    put_spec(store, spec)
    return spec


def assert_two_train_as_one(
    tmp_path: Path, store: FolderStore, spec: RunSpec, *, device: torch.device = CPU
) -> None:
    """Train a run by one process, then by two, and compare what they found."""
    run = open_run(store, spec, folder=tmp_path / "alone", ranks=alone(device))
    expected = fit_all(run, model_of(run))
    for key in store.list(checkpoint_prefix("job-1")):
        store.delete(key.key)
    first, second = trained(store.url, tmp_path, what="fit", count=2)
    torch.testing.assert_close(first["losses"][:1], expected["losses"][:1], rtol=1e-5, atol=0)
    torch.testing.assert_close(first["losses"], expected["losses"], rtol=1e-3, atol=0)
    torch.testing.assert_close(first["valid"], expected["valid"], rtol=1e-3, atol=0)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    torch.testing.assert_close(first["losses"], second["losses"], rtol=0, atol=0)
    # Each told what it used, for the cost of the run.
    assert first["fit"] == second["fit"]
    assert min(first["fit"][0], first["fit"][1]) > 0
    # The first process alone writes, and what it saves is the run's whole state.
    assert len(list(store.list(checkpoint_prefix("job-1")))) == 1


class TestAgreement:
    @pytest.mark.parametrize("frozen_to", [0, -1])
    def test_the_gradient_and_the_statistics_are_those_of_one_process(
        self, tmp_path: Path, frozen_to: int
    ) -> None:
        store = FolderStore(tmp_path / "store")
        stage = whole(1, frozen_to=frozen_to, label_smoothing=0.1)
        spec = shared(store, resnet(CacheStage(presize=32), stage, EVALUATE))
        run = open_run(store, spec, folder=tmp_path / "alone")
        expected = take_gradient(run, model_of(run))
        first, second = trained(store.url, tmp_path, what="gradient", count=2)
        for found in (first, second):
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert found["gradients"].keys() == expected["gradients"].keys()
            for name, gradient in expected["gradients"].items():
                close(found["gradients"][name], gradient, what=name)
            for name, buffer in expected["buffers"].items():
                close(found["buffers"][name].double(), buffer.double(), what=name)
        assert first["loss"] == second["loss"]

    @pytest.mark.long
    def test_two_processes_train_the_run_that_one_trains(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path / "store")
        assert_two_train_as_one(tmp_path, store, shared(store, GENTLE))

    @pytest.mark.long
    def test_what_is_too_much_for_memory_is_gathered_in_pieces_into_a_file(
        self, tmp_path: Path
    ) -> None:
        store = FolderStore(tmp_path / "store")
        shared(store, GENTLE)
        own = torch.arange(20.0).reshape(5, 4)
        for found in trained(store.url, tmp_path, what="gather", count=2):
            assert torch.equal(found["joined"], torch.cat([own, own[:3] + 100]))
            assert found["mapped"]

    @pytest.mark.long
    def test_the_gradient_of_a_batch_in_parts_is_that_of_one_process(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path / "store")
        parts = resnet(CacheStage(presize=32), whole(1), EVALUATE, accumulate=3)
        run = open_run(store, shared(store, parts), folder=tmp_path / "alone")
        expected = take_gradient(run, model_of(run), plain=True)
        for found in trained(store.url, tmp_path, what="plain gradient", count=2):
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            for name, gradient in expected["gradients"].items():
                close(found["gradients"][name], gradient, what=name)

    @pytest.mark.long
    def test_when_one_runs_out_of_memory_all_begin_anew_with_halves(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path / "store")
        shared(store, GENTLE)
        first = trained(store.url, tmp_path, what="short", count=2)
        assert [found.get("left") for found in first] == [True, True]
        one, other = trained(store.url, tmp_path, what="short", count=2)
        assert (one["steps"], one["halvings"]) == (other["steps"], other["halvings"]) == (6, 1)
        for name, weight in one["weights"].items():
            assert torch.equal(weight, other["weights"][name]), name


def close(found: torch.Tensor, expected: torch.Tensor, *, what: str) -> None:
    """Compare to a part in 10,000 of the largest value: both are sums in another order."""
    most = float((found - expected).abs().max())
    assert most <= 1e-4 * float(expected.abs().max()) + 1e-7, f"{what}: {most}"


class TestShares:
    def test_shares_are_whole_and_differ_by_one_at_most(self) -> None:
        batch = torch.arange(11).numpy()
        parts = [Ranks(torch.device("cpu"), n, 3).share(batch) for n in range(3)]
        assert [len(part) for part in parts] == [4, 4, 3]
        assert [int(place) for part in parts for place in part] == list(range(11))
        assert alone().share(batch) is batch

    def test_a_batch_has_enough_for_all_or_is_larger_than_asked_for(self) -> None:
        order = torch.arange(19).numpy()
        assert [len(part) for part in batches(order, 8)] == [7, 6, 6]
        assert [len(part) for part in batches(order, 8, least=8)] == [10, 9]

    def test_each_process_draws_for_itself_and_the_first_as_if_it_were_alone(self) -> None:
        assert step_seed(42, 3, rank=0) == step_seed(42, 3)
        assert len({step_seed(42, 3, rank=rank) for rank in range(4)}) == 4

    def test_more_processes_than_a_batch_can_be_shared_by_are_refused(self, tmp_path: Path) -> None:
        spec = shared(FolderStore(tmp_path), GENTLE, nodes=5)
        with pytest.raises(InputError) as refused:
            Ranks(torch.device("cpu"), count=5).check_batches(spec, pictures=21, valid=9)
        assert (refused.value.problem.field, refused.value.problem.value) == ("nodes", "5")
        alone().check_batches(spec, pictures=1, valid=1)

    def test_more_processes_than_valid_images_are_refused(self, tmp_path: Path) -> None:
        spec = shared(FolderStore(tmp_path), GENTLE, nodes=3)
        three = Ranks(torch.device("cpu"), count=3)
        three.check_batches(spec, pictures=21, valid=3)
        with pytest.raises(InputError, match="cannot share 2 valid images"):
            three.check_batches(spec, pictures=21, valid=2)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([0, 0], ExitCode.done),
        ([75, 75], ExitCode.interrupted),
        ([0, 75], ExitCode.interrupted),
        ([42], ExitCode.input_at_fault),
        ([42, 75], ExitCode.input_at_fault),
        ([75], CRASHED),
        ([0], CRASHED),
        ([], CRASHED),
    ],
)
def test_the_ends_of_two_processes_are_one(ends: list[int], code: int) -> None:
    assert outcome(ends, processes=2) == code


class Team(Job):
    """A job whose attempts are two processes under a launcher."""

    def told(self, attempt: str) -> dict[str, str]:
        return {**super().told(attempt), environment.COLLECTIVE_TIMEOUT: "20"}

    def ranks(self, launcher: int) -> list[psutil.Process]:
        """Wait for the launcher's processes, and return them in their order."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            found = [
                process
                for process in psutil.Process(launcher).children(recursive=True)
                if "trainer.rank" in process.cmdline()
            ]
            if len(found) == 2:
                return sorted(found, key=lambda process: int(process.environ()["RANK"]))
            time.sleep(0.05)
        pytest.fail("the launcher started no processes")


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


LONG = recipe(CacheStage(presize=32), whole(40), EVALUATE, batch_size=4)


@pytest.mark.long
def test_all_end_with_42_where_the_input_is_at_fault(team: Team) -> None:
    spec = shared(team.store, GENTLE)
    image = next(iter(team.store.list("images/"))).key
    team.store.put(image, b"not a picture")
    assert team.end(team.start("a")) == ExitCode.input_at_fault, team.said
    problem = team.result().problem
    assert problem is not None
    assert problem.code == "unreadable_image"
    assert spec.ranks == 2


@pytest.mark.long
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_two_gpus_that_are_not_there_end_the_run(team: Team) -> None:
    spec = shared(team.store, GENTLE, nodes=1)
    put_spec(team.store, spec.model_copy(update={"gpus": 2, "device": "cuda"}))
    assert team.end(team.start("a")) == ExitCode.input_at_fault, team.said
    problem = team.result().problem
    assert problem is not None
    assert (problem.code, problem.field) == ("no_gpu", "device")
    assert "2 GPUs" in problem.detail


@pytest.mark.long
def test_a_process_that_is_killed_ends_all_as_a_crash(team: Team) -> None:
    shared(team.store, LONG)
    launcher = team.start("a")
    _, second = team.ranks(launcher.pid)
    team.wait_for_step("a", launcher, done=1)
    second.kill()
    assert team.end(launcher) == CRASHED, team.said
    assert not team.store.exists(result_key("job-1"))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asked", ["the launcher", "the second process"])
def test_sigterm_stops_all_at_one_step_and_the_next_attempt_goes_on(team: Team, asked: str) -> None:
    shared(team.store, LONG.model_copy(update={"stages": (*LONG.stages[:1], whole(8), EVALUATE)}))
    launcher = team.start("a")
    ranks = team.ranks(launcher.pid)
    team.wait_for_step("a", launcher, done=1)
    os.kill(launcher.pid if asked == "the launcher" else ranks[1].pid, signal.SIGTERM)
    assert team.end(launcher) == ExitCode.interrupted, team.said
    assert len(list(team.store.list(checkpoint_prefix("job-1")))) >= 1

    assert team.end(team.start("b")) == ExitCode.done, team.said
    curves = Curves.model_validate_json(team.store.get(team.output_of_run().curves_key))
    assert [point.step for point in curves.steps] == list(range(1, 8 * 5 + 1))
    assert [point.epoch for point in curves.epochs] == list(range(1, 9))
    assert team.output_of_run().device == "cpu"
    assert team.output_of_run().summary.splits["valid"].images == 9


class Pod(Team):
    """One of a job's pods, as the cluster tells it."""

    def __init__(self, folder: Path, *, index: int) -> None:
        super().__init__(folder)
        self.index = index

    def told(self, attempt: str) -> dict[str, str]:
        pod = {environment.MASTER: "localhost", environment.INDEX: str(self.index)}
        # Each has a disk of its own.
        own = {environment.CACHE: str(self.folder / f"cache-{self.index}")}
        return {**super().told(attempt), **pod, **own}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_pods_leave_together_when_one_is_evicted_and_then_finish(tmp_path: Path) -> None:
    pods = [Pod(tmp_path, index=index) for index in range(2)]
    short = LONG.model_copy(update={"stages": (*LONG.stages[:1], whole(8), EVALUATE)})
    spec = shared(pods[0].store, short)
    begun = [pod.start(f"first-{pod.index}") for pod in pods]
    pods[0].wait_for_step("first-0", begun[0], done=1)
    begun[1].send_signal(signal.SIGTERM)
    assert [pod.end(launcher) for pod, launcher in zip(pods, begun, strict=True)] == [75, 75]

    begun = [pod.start(f"next-{pod.index}") for pod in pods]
    assert [pod.end(launcher) for pod, launcher in zip(pods, begun, strict=True)] == [0, 0]
    assert pods[0].result().attempt == "next-0"
    curves = Curves.model_validate_json(pods[0].store.get(pods[0].output_of_run().curves_key))
    assert [point.step for point in curves.steps] == list(range(1, 8 * 5 + 1))
    assert spec.ranks == 2
