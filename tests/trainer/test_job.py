"""The whole job: from its spec in the mailbox to its one result, and every way to end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from bearloop.bundle import load_bundle
from bearloop.contract import environment
from bearloop.contract.jobs import (
    ExitCode,
    Problem,
    Progress,
    Result,
    checkpoint_prefix,
    progress_key,
    result_key,
    spec_key,
)
from bearloop.contract.recipes import CacheStage, EvaluateStage, LrFindStage
from bearloop.contract.runs import Curves, LrFinds, RunOutput, RunSpec
from bearloop.report_file import count_rows
from bearloop.store import FolderStore, image_key
from tests.trainer.short import short_for_all
from tests.trainer.versions import pictures, put_spec, put_version, recipe, resnet, whole
from trainer.__main__ import main

EVALUATE = EvaluateStage(folds=2, tta_views=1)
SHORT = recipe(CacheStage(presize=32), whole(2), EVALUATE)
SEARCH = LrFindStage(start_lr=1e-5, iterations=45)
DEADLINE = 240.0
"""Seconds that a subprocess may take on a busy machine."""


class Job:
    """One job in a folder store, run as the worker runs it: a process with an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")

    def start(self, attempt: str) -> subprocess.Popen[str]:
        return self._python([], self.told(attempt))

    def told(self, attempt: str) -> dict[str, str]:
        """The environment that the worker gives an attempt."""
        return {
            environment.STORE_URL: self.store.url,
            environment.JOB: "job-1",
            environment.ATTEMPT: attempt,
            environment.CACHE: str(self.folder / "cache"),
        }

    def rerun(self, spec: Path) -> subprocess.Popen[str]:
        return self._python(["--spec", str(spec), "--store", self.store.url], {})

    def end(self, process: subprocess.Popen[str]) -> int:
        """Wait for the process and return its exit code; what it said is in `self.said`."""
        self.output, self.said = process.communicate(timeout=DEADLINE)
        return process.returncode

    def result(self) -> Result:
        return Result.model_validate_json(self.store.get(result_key("job-1")))

    def output_of_run(self) -> RunOutput:
        output = self.result().output
        assert isinstance(output, RunOutput)
        return output

    def progress(self, attempt: str) -> Progress | None:
        key = progress_key("job-1", attempt)
        if not self.store.exists(key):
            return None
        return Progress.model_validate_json(self.store.get(key))

    def wait_for_step(self, attempt: str, process: subprocess.Popen[str], *, done: int) -> None:
        """Wait until the attempt is training and has taken so many steps."""

        def trains() -> bool:
            progress = self.progress(attempt)
            return progress is not None and progress.stage == "whole" and progress.done >= done

        self.wait_for(trains, process)

    def wait_for(self, seen: Callable[[], object], process: subprocess.Popen[str]) -> None:
        """Wait until something is seen of an attempt that works."""
        deadline = time.monotonic() + DEADLINE
        while not seen():
            assert time.monotonic() < deadline, "it was never seen"
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def _python(self, arguments: list[str], told: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    job = Job(tmp_path)
    for name, value in job.told("a").items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)
    yield job
    signal.signal(signal.SIGTERM, before)


def version(job: Job, **changes: object) -> RunSpec:
    spec = put_version(job.store, pictures(train=4, valid=2), recipe=SHORT)
    changed = spec.model_copy(update=changes)
    put_spec(job.store, changed)
    return changed


def refused(job: Job) -> Problem:
    """Run the job in this process: starting torch anew for each refusal would take minutes."""
    assert main([]) == ExitCode.input_at_fault
    result = job.result()
    assert (result.outcome, result.attempt, result.output) == ("input_at_fault", "a", None)
    assert result.problem is not None
    return result.problem


def test_a_run_leaves_report_bundle_and_result_and_a_rerun_equal_weights(job: Job) -> None:
    spec = version(job)
    assert job.end(job.start("a")) == ExitCode.done, job.said
    output = job.output_of_run()
    assert output.device == "cpu"
    assert set(output.seconds) == {"cache", "fit", "evaluate", "export"}
    assert output.summary.splits["valid"].images == 6
    assert output.cost is not None
    assert output.cost.cpu_utilisation > 0
    assert output.cost.images_per_second
    assert output.cost.stages.keys() == {"whole"}
    bundle = load_bundle(job.store, output.bundle_prefix)
    assert [entry.id for entry in bundle.card.classes] == [70, 80, 90]
    for key in output.report_keys.values():
        assert count_rows(job.store, key) == 18
    curves = Curves.model_validate_json(job.store.get(output.curves_key))
    assert [point.step for point in curves.steps] == [1, 2, 3, 4]
    folder = job.folder / "store" / output.curves_key.rpartition("/")[0]
    # The folder store's files are the files: anybody's pandas reads them.
    steps, epochs = (pd.read_parquet(folder / f"{name}.parquet") for name in ("steps", "epochs"))
    assert list(steps.loss) == [point.loss for point in curves.steps]
    assert list(epochs.valid_loss) == [point.valid_loss for point in curves.epochs]
    assert list(epochs.valid_images) == [6, 6]
    assert (
        (epochs.error_low <= epochs.error_rate) & (epochs.error_rate <= epochs.error_high)
    ).all()
    assert (epochs.valid_loss_low < epochs.valid_loss).all()
    assert (epochs.valid_loss < epochs.valid_loss_high).all()
    report = pd.read_parquet(job.folder / "store" / output.report_keys["loss"])
    assert len(report) == 18
    assert not list(job.store.list(checkpoint_prefix("job-1")))

    file = job.folder / "spec.json"
    file.write_bytes(job.store.get(spec_key("job-1")))
    assert job.end(job.rerun(file)) == ExitCode.done, job.said
    again = Result.model_validate_json(job.output)
    assert again.job != spec.job
    assert isinstance(again.output, RunOutput)
    # The bundle's digest names the weights' bytes, so equal digests are equal weights.
    assert again.output.bundle_digest == output.bundle_digest
    assert job.result().attempt == "a"


@pytest.mark.long
def test_an_evicted_run_saves_and_the_next_attempt_makes_one_curve(job: Job) -> None:
    longer = recipe(CacheStage(presize=32), whole(12), EVALUATE, batch_size=4)
    spec = put_version(job.store, pictures(train=4, valid=2), recipe=longer)
    evicted = job.start("a")
    job.wait_for_step("a", evicted, done=1)
    evicted.send_signal(signal.SIGTERM)
    assert job.end(evicted) == ExitCode.interrupted, job.said
    assert list(job.store.list(checkpoint_prefix("job-1")))
    assert not job.store.exists(result_key("job-1"))

    assert job.end(job.start("b")) == ExitCode.done, job.said
    assert job.result().attempt == "b"
    curves = Curves.model_validate_json(job.store.get(job.output_of_run().curves_key))
    assert [point.step for point in curves.steps] == list(range(1, 37))
    assert [point.epoch for point in curves.epochs] == list(range(1, 13))
    assert spec.job == "job-1"


def test_the_first_result_wins_and_a_later_one_is_kept_beside_its_data(job: Job) -> None:
    version(job)
    first = Result(job="job-1", attempt="earlier", outcome="input_at_fault")
    job.store.put_new(result_key("job-1"), first.canonical())
    assert main([]) == ExitCode.done
    assert job.result() == first
    kept = Result.model_validate_json(job.store.get("jobs/job-1/attempts/a/result.json"))
    assert kept.outcome == "done"


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_ends_the_run(job: Job) -> None:
    version(job, device="cuda")
    problem = refused(job)
    assert (problem.code, problem.field, problem.value) == ("no_gpu", "device", "cuda")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_fp16_on_a_cpu_ends_the_run_with_the_way_out(job: Job) -> None:
    version(job, device="auto", recipe=SHORT.model_copy(update={"precision": "fp16"}))
    problem = refused(job)
    assert (problem.code, problem.field) == ("no_fp16_on_cpu", "recipe.precision")
    assert "bf16 or fp32" in (problem.way_out or "")


def test_a_class_without_valid_images_ends_the_run_by_name(job: Job) -> None:
    rows = [row for row in pictures(train=4, valid=2) if row[1] != 2 or row[2] == "train"]
    put_version(job.store, rows, recipe=SHORT)
    problem = refused(job)
    assert (problem.code, problem.value) == ("class_without_valid", "blue")


def test_weights_that_are_not_there_end_the_run(job: Job) -> None:
    address = (job.folder / "gone.pth").as_uri()
    version(job, recipe=SHORT.model_copy(update={"weights": address}))
    problem = refused(job)
    assert (problem.code, problem.value) == ("weights_unavailable", address)


def test_an_unreadable_image_ends_the_run_with_its_sha256(job: Job) -> None:
    version(job)
    image = next(iter(job.store.list("images/"))).key
    job.store.put(image, b"not a picture")
    problem = refused(job)
    assert problem.value is not None
    assert image == image_key(problem.value)


def test_a_rate_that_is_found_trains_the_run_and_judges_its_labels(job: Job) -> None:
    version(job, recipe=resnet(CacheStage(presize=32), SEARCH, whole(1, lr="auto"), EVALUATE))
    assert main([]) == ExitCode.done
    curves = Curves.model_validate_json(job.store.get(job.output_of_run().curves_key))
    (found,) = curves.lr_finds
    assert {step.lr for step in curves.steps} == {found.lr}
    kept = job.store.get("jobs/job-1/attempts/a/lr-finder.json")
    assert LrFinds.model_validate_json(kept).finds == (found,)


def test_models_that_judge_labels_know_how_little_memory_there_is(job: Job) -> None:
    version(job, recipe=recipe(CacheStage(presize=32), whole(1), EVALUATE))
    with short_for_all(holds=4, training=True) as tried:
        assert main([]) == ExitCode.done
    # The run finds it out at its first batch of six, and no model after it does again.
    assert tried[:3] == [6, 3, 3]
    assert max(tried[1:]) == 4
    assert sum(tried) > 2 * 12, "no model judged labels"
    notes = Curves.model_validate_json(job.store.get(job.output_of_run().curves_key)).notes
    assert len(notes) == 1


def test_an_auto_rate_that_nothing_finds_ends_the_run_before_it_starts(job: Job) -> None:
    version(job, recipe=recipe(CacheStage(presize=32), whole(1, lr="auto"), EVALUATE))
    problem = refused(job)
    assert (problem.code, problem.value) == ("recipe_not_whole", "auto")
    assert "'whole'" in problem.detail


def test_a_recipe_without_fit_stage_and_a_wrong_spec_are_refused_by_field(job: Job) -> None:
    spec = version(job, recipe=recipe(CacheStage(presize=32), EVALUATE))
    problem = refused(job)
    assert (problem.code, problem.field) == ("recipe_not_whole", "recipe.stages")

    job.store.delete(result_key("job-1"))
    content = spec.model_dump(mode="json")
    content["recipe"]["batch_size"] = 1
    job.store.put(spec_key("job-1"), json.dumps(content).encode())
    problem = refused(job)
    assert (problem.code, problem.field) == ("spec_invalid", "recipe.batch_size")


def test_without_environment_the_program_names_what_is_missing(job: Job) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BEARLOOP_")}
    process = subprocess.run(
        [sys.executable, "-m", "trainer"], env=environ, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert "BEARLOOP_STORE_URL" in process.stderr
