"""What a run took is added up over its epochs, its attempts and its processes."""

import pytest

from bearloop.contract.runs import EpochPoint, StepPoint
from trainer.checkpoint import FitState
from trainer.cost import Used, cost_of, job_seconds

MB = 2**20


def used(*, fit: float = 10, **changes: object) -> Used:
    fields = {
        "attempt": "a",
        "number": 0,
        "node": 0,
        "cores": 4,
        "seconds": {"cache": 1, "fit": fit},
        "cpu_seconds": 10,
        "memory": 100 * MB,
        "gpu": None,
        "gpu_memory": None,
    }
    return Used.model_validate({**fields, **changes})


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
        used(cpu_seconds=10, memory=50 * MB, number=1),
        used(cpu_seconds=6, memory=90 * MB, number=2, node=1),
        used(cpu_seconds=4, memory=30 * MB, number=3, node=1),
    ]
    cost = cost_of(processes, FitState())
    assert cost.peak_memory == 150 * MB
    assert cost.cpu_utilisation == pytest.approx((30 / 40 + 10 / 40) / 2)
    assert (cost.gpu_utilisation, cost.peak_gpu_memory) == (None, None)
    assert job_seconds(processes) == {"cache": 1, "fit": 10}


def test_each_process_has_a_gpu_of_its_own() -> None:
    processes = [used(gpu=0.9, gpu_memory=5 * MB), used(gpu=0.5, gpu_memory=7 * MB, number=1)]
    cost = cost_of(processes, FitState())
    assert cost.gpu_utilisation == pytest.approx(0.7)
    assert cost.peak_gpu_memory == 7 * MB


def test_attempts_add_up_and_the_longer_one_weighs_more() -> None:
    attempts = [
        used(fit=30, cpu_seconds=90, memory=100 * MB, gpu=0.9, gpu_memory=7 * MB),
        # On another machine, with fewer cores.
        used(attempt="b", fit=10, cores=2, cpu_seconds=5, memory=80 * MB, gpu=0.5, gpu_memory=MB),
        # Left before it trained.
        used(attempt="c", seconds={"cache": 4}, cpu_seconds=0, memory=20 * MB),
    ]
    cost = cost_of(attempts, FitState())
    assert cost.cpu_utilisation == pytest.approx(95 / (30 * 4 + 10 * 2))
    assert cost.gpu_utilisation == pytest.approx((30 * 0.9 + 10 * 0.5) / 40)
    assert (cost.peak_memory, cost.peak_gpu_memory) == (100 * MB, 7 * MB)
    assert job_seconds(attempts) == {"cache": 6, "fit": 40}
