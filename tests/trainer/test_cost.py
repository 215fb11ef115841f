"""What a run took is added up over its epochs, its attempts and its processes."""

import subprocess
import sys
import time
from math import nan

import pytest

from bearloop.contract.runs import EpochPoint, StepPoint
from tests.trainer.team import DEADLINE
from trainer.checkpoint import FitState
from trainer.cost import Meter, Used, cores, cost_of, peak_memory
from trainer.ranks import alone

MB = 2**20


def used(**changes: float) -> Used:
    one = Used(
        node=0, cores=4, seconds=10, cpu_seconds=10, memory=100 * MB, gpu=nan, gpu_memory=nan
    )
    return one._replace(**changes)


def end_epoch(state: FitState, *, batches: int, seconds: float, stage: str = "whole") -> None:
    """Train so many batches of 8 in `seconds`, then validate as long again."""
    for batch in range(1, batches + 1):
        point = StepPoint(step=len(state.steps) + 1, loss=1, lr=0.1, momentum=0.9)
        state.end_step(point, pictures=8, seconds=seconds * batch / batches)
    epoch = EpochPoint(
        stage=stage,
        epoch=len(state.epochs) + 1,
        train_loss=1,
        valid_loss=1,
        error_rate=0.5,
        seconds=2 * seconds,
    )
    state.end_epoch(epoch)


def test_images_a_second_are_those_of_training_alone() -> None:
    state = FitState()
    end_epoch(state, batches=10, seconds=4, stage="head")
    # Another attempt: what was done before comes back with the checkpoint.
    resumed = FitState.model_validate_json(state.model_dump_json())
    end_epoch(resumed, batches=10, seconds=1)
    cost = cost_of([used()], resumed)
    assert cost.images_per_second == pytest.approx(160 / 5)
    assert cost.stages == {"head": 8, "whole": 2}


def test_a_checkpoint_that_is_older_than_the_measurement_goes_on() -> None:
    state = FitState.model_validate({"epoch": 1})
    assert cost_of([used()], state).images_per_second is None


def test_processes_of_a_node_share_its_memory_and_cores_and_nodes_do_not() -> None:
    processes = [
        used(cpu_seconds=20, memory=100 * MB),
        used(cpu_seconds=10, memory=50 * MB),
        used(cpu_seconds=6, memory=90 * MB, node=1),
        used(cpu_seconds=4, memory=30 * MB, node=1),
    ]
    cost = cost_of(processes, FitState())
    assert cost.peak_memory == 150 * MB
    assert cost.cpu_utilisation == pytest.approx((30 / 40 + 10 / 40) / 2)
    assert (cost.gpu_utilisation, cost.peak_gpu_memory) == (None, None)


def test_each_process_has_a_gpu_of_its_own() -> None:
    processes = [used(gpu=0.9, gpu_memory=5 * MB), used(gpu=0.5, gpu_memory=7 * MB)]
    cost = cost_of(processes, FitState())
    assert cost.gpu_utilisation == pytest.approx(0.7)
    assert cost.peak_gpu_memory == 7 * MB


def test_a_process_that_works_is_told_from_one_that_waits() -> None:
    def share(meter: Meter) -> float:
        (one,) = meter.all_used()
        assert (one.cores, one.node) == (cores(), 0)
        return one.cpu_seconds / one.seconds

    working, waiting = Meter(alone()), Meter(alone())
    until = time.process_time() + 0.2
    with working.fitting():
        while time.process_time() < until:
            pass
    with waiting.fitting():
        subprocess.run([sys.executable, "-c", ""], check=True, timeout=DEADLINE)
    assert share(working) > 2 * share(waiting)


def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    before = peak_memory()
    more = bytearray(before + 100 * MB)
    more[:: 2**12] = b"x" * len(more[:: 2**12])
    del more
    assert peak_memory() >= before + 100 * MB
