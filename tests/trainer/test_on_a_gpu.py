"""What only a GPU can show; skipped where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d

from bearloop.contract.jobs import ExitCode
from bearloop.contract.recipes import SIDE_ON, CacheStage, Recipe
from bearloop.store import FolderStore
from tests.trainer.runs import CPU, model_of, open_run
from tests.trainer.team import take_gradient
from tests.trainer.test_fit import assert_eight_are_learnt, assert_it_goes_on, fitted, small_run
from tests.trainer.test_job import EVALUATE, Job
from tests.trainer.test_ranks import GENTLE, assert_two_train_as_one, close, shared
from tests.trainer.versions import (
    pictures,
    put_spec,
    put_version,
    put_weights,
    recipe,
    resnet,
    whole,
)
from trainer.device import make_deterministic
from trainer.fit import fit
from trainer.meter import busy_share
from trainer.optimiser import new_optimiser
from trainer.ranks import alone
from trainer.run import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GPU = torch.device("cuda", 0)
LARGE = recipe(
    CacheStage(presize=224), whole(1), preprocess={"size": 224}, augment=SIDE_ON, batch_size=64
)
"""Its activations are far more than its weights, so half a batch takes about half the memory."""


@pytest.mark.parametrize("asked", ["cuda", "auto"])
def test_a_run_takes_the_gpu_and_tells_what_it_took(tmp_path: Path, asked: str) -> None:
    job = Job(tmp_path)
    # With weights labels are judged by heads; so many epochs that the driver is asked meanwhile.
    wanted = resnet(CacheStage(presize=32), whole(200), EVALUATE, weights=put_weights(tmp_path))
    spec = put_version(job.store, pictures(train=4, valid=2), recipe=wanted)
    put_spec(job.store, spec.model_copy(update={"device": asked}))
    assert job.end(job.start("a")) == ExitCode.done, job.said
    output = job.output_of_run()
    assert output.device == f"cuda:0 {torch.cuda.get_device_name(0)}"
    assert output.cost is not None
    # At least resnet18's 11 million weights, their gradient and AdamW's two means.
    assert output.cost.peak_gpu_memory is not None
    assert output.cost.peak_gpu_memory > 4 * 4 * 11 * 10**6
    if busy_share(GPU):
        assert output.cost.gpu_utilisation is not None
        assert 0 < output.cost.gpu_utilisation <= 1


def test_fp32_is_not_rounded() -> None:
    make_deterministic()
    torch.manual_seed(1)
    pixels, kernel = torch.randn(8, 64, 28, 28), torch.randn(64, 64, 3, 3)
    exact = conv2d(pixels.double(), kernel.double())
    found = conv2d(pixels.to(GPU), kernel.to(GPU)).cpu().double()
    # 576 products: fp32 errs by a few parts in ten million, TF32 by some in ten thousand.
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-5


def test_the_gradient_is_the_cpus(tmp_path: Path) -> None:
    stage = whole(1, label_smoothing=0.1)
    wanted = recipe(CacheStage(presize=40), stage, augment=SIDE_ON)
    on_cpu, on_gpu = (opened(tmp_path, wanted, device) for device in (CPU, GPU))
    expected = take_gradient(on_cpu, model_of(on_cpu), plain=True)
    found = take_gradient(on_gpu, model_of(on_gpu), plain=True)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for name, gradient in expected["gradients"].items():
        close(found["gradients"][name].cpu(), gradient, what=name)


def test_the_first_steps_are_the_cpus(tmp_path: Path) -> None:
    """At a rate where a rounding error stays one; without dropout, which a GPU draws otherwise."""
    wanted = recipe(CacheStage(presize=40), whole(2, lr=1e-6), augment=SIDE_ON, batch_size=5)
    _, expected = fitted(small_run(tmp_path, wanted, job="job-1"))
    model, state = fitted(small_run(tmp_path, wanted, job="job-2", device=GPU))
    losses = [point.loss for point in expected.steps]
    assert [point.loss for point in state.steps] == pytest.approx(losses, rel=1e-3)
    valid = [point.valid_loss for point in expected.epochs]
    assert [point.valid_loss for point in state.epochs] == pytest.approx(valid, rel=1e-3)
    assert {value.device for value in model.state_dict().values()} == {GPU}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_eight_images_are_learnt_to_zero_error(tmp_path: Path, precision: str) -> None:
    # In fp16 the first steps may overflow, and are left out.
    model = assert_eight_are_learnt(tmp_path, device=GPU, precision=precision)
    kernels = [value for value in model.parameters() if value.ndim == 4]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert new_optimiser(model, whole(1)).defaults["fused"]


# In the middle of an epoch, and behind its last step.
@pytest.mark.parametrize("looks", [1, 3])
def test_a_run_that_left_and_came_back_ends_with_equal_bits(tmp_path: Path, looks: int) -> None:
    assert_it_goes_on(tmp_path, looks=looks, device=GPU)


def test_a_batch_that_does_not_fit_is_halved_and_the_run_says_so(tmp_path: Path) -> None:
    parts = LARGE.model_copy(update={"batch_size": 32, "accumulate": 2})
    whole_batch, half = (most_reserved(opened(tmp_path, wanted, GPU)) for wanted in (LARGE, parts))
    assert half < 0.8 * whole_batch
    run = opened(tmp_path, LARGE, GPU)
    model = model_of(run)
    with exhausted(but=(whole_batch + half) // 2):
        state = fit(run, model, None)
    assert state.halvings >= 1
    assert "out of memory at step 1 with 64 pictures" in state.notes[0]
    assert len(state.steps) == 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_the_run_that_one_trains(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    spec = shared(store, GENTLE, nodes=1).model_copy(update={"device": "cuda", "gpus": 2})
    put_spec(store, spec)
    assert_two_train_as_one(tmp_path, store, spec, device=GPU)


def opened(tmp_path: Path, wanted: Recipe, device: torch.device) -> Run:
    """A run of 64 pictures, of which nothing is left by another one."""
    store = FolderStore(tmp_path / "pictures")
    rows = pictures(train=32, valid=1, classes=2)
    job = f"{device.type}-{wanted.digest()[:8]}"
    spec = put_version(store, rows, recipe=wanted, names=("red", "green"), job=job)
    run = open_run(store, spec, folder=tmp_path / "cache", ranks=alone(device))
    run.checkpoints.clear()
    return run


def most_reserved(run: Run) -> int:
    """Train a run; returns the most bytes that the allocator took from the device for it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(GPU)
    fit(run, model_of(run), None)
    run.checkpoints.clear()
    return torch.cuda.max_memory_reserved(GPU)


@contextmanager
def exhausted(*, but: int) -> Iterator[None]:
    """Take all of the device's free memory but so many bytes, as another program would."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(GPU)
    taken = torch.empty(free - but, dtype=torch.uint8, device=GPU)
    try:
        yield
    finally:
        del taken
        torch.cuda.empty_cache()
