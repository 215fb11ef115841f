"""Checkpoints: written whole, kept to two, and never read when damaged or of another spec."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch

from bearloop.contract.jobs import checkpoint_prefix
from bearloop.contract.runs import EpochPoint, RunSpec, StepPoint
from bearloop.store import TEMPORARY, FolderStore, open_store
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.checkpoint import Checkpoints, FitState
from trainer.model import Classifier, build_classifier
from trainer.optimiser import new_optimiser, optimiser_tensors, restore_optimiser


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def spec(store: FolderStore) -> RunSpec:
    return put_version(store, pictures(train=1, valid=1), recipe=recipe())


def trained(steps: int) -> tuple[Classifier, torch.optim.AdamW, FitState]:
    """A model, its optimiser and state after so many steps on noise."""
    torch.manual_seed(steps)
    model = build_classifier(recipe(), 3, None).to(memory_format=torch.channels_last)
    optimiser = new_optimiser(model, whole(1))
    state = FitState()
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        model(torch.randn(2, 3, 32, 32)).square().sum().backward()
        optimiser.step()
        state.end_step(
            StepPoint(step=step, loss=1 / 3, lr=1e-3, momentum=0.9), pictures=2, seconds=0.1
        )
    return model, optimiser, state


def keys(store: FolderStore) -> list[str]:
    return [info.key for info in store.list(checkpoint_prefix("job-1"))]


def test_a_stored_specification_that_counted_epochs_saves_by_the_clock(spec: RunSpec) -> None:
    stored = spec.model_dump(mode="json")
    assert stored["checkpoint_every"] == "PT2M"
    assert RunSpec.model_validate({**stored, "checkpoint_every": 1}) == spec
    slower = RunSpec.model_validate({**stored, "checkpoint_every": "PT10M"})
    assert slower.checkpoint_every == timedelta(minutes=10)


def test_one_of_a_release_without_the_valid_losses_interval_is_read(
    store: FolderStore, spec: RunSpec
) -> None:
    model, optimiser, state = trained(1)
    older = EpochPoint(
        stage="whole", epoch=1, train_loss=1, valid_loss=0.5, error_rate=0.5, seconds=1
    )
    state.end_epoch(older)
    Checkpoints(store, spec).save(model, optimiser, state)
    assert b"valid_loss_low" not in store.get(keys(store)[0])
    found = Checkpoints(store, spec).newest()
    assert found is not None
    assert found.state.epochs == [older]


def test_what_was_saved_comes_back_to_the_bit(store: FolderStore, spec: RunSpec) -> None:
    model, optimiser, state = trained(2)
    Checkpoints(store, spec).save(model, optimiser, state)
    found = Checkpoints(store, spec).newest()
    assert found is not None
    assert found.state == state
    assert found.model.keys() == model.state_dict().keys()
    assert all(torch.equal(value, found.model[key]) for key, value in model.state_dict().items())
    other, _, _ = trained(1)
    other.load_state_dict(found.model)
    again = new_optimiser(other, whole(1))
    restore_optimiser(again, other, found.optimiser)
    before, after = optimiser_tensors(optimiser, model), optimiser_tensors(again, other)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(value.stride() == after[key].stride() for key, value in before.items())


def test_only_the_newest_two_are_kept(store: FolderStore, spec: RunSpec) -> None:
    checkpoints = Checkpoints(store, spec)
    for steps in (1, 2, 3):
        checkpoints.save(*trained(steps))
    assert len(keys(store)) == 2
    newest = checkpoints.newest()
    assert newest is not None
    assert len(newest.state.steps) == 3


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"half a file"])
def test_a_damaged_one_is_passed_over(store: FolderStore, spec: RunSpec, damage: bytes) -> None:
    checkpoints = Checkpoints(store, spec)
    checkpoints.save(*trained(1))
    checkpoints.save(*trained(2))
    store.put(keys(store)[-1], damage)
    newest = checkpoints.newest()
    assert newest is not None
    assert len(newest.state.steps) == 1


def test_one_that_was_cut_short_is_passed_over(store: FolderStore, spec: RunSpec) -> None:
    checkpoints = Checkpoints(store, spec)
    checkpoints.save(*trained(1))
    data = store.get(keys(store)[0])
    store.put(keys(store)[0], data[: len(data) // 2])
    assert checkpoints.newest() is None


def test_one_of_another_specification_is_passed_over(store: FolderStore, spec: RunSpec) -> None:
    Checkpoints(store, spec).save(*trained(1))
    assert Checkpoints(store, spec.model_copy(update={"seed": 7})).newest() is None


def test_a_run_that_is_done_leaves_none(store: FolderStore, spec: RunSpec) -> None:
    checkpoints = Checkpoints(store, spec)
    checkpoints.save(*trained(1))
    (store.folder / checkpoint_prefix("job-1") / f"{TEMPORARY}killed").write_bytes(b"half")
    checkpoints.clear()
    assert keys(store) == []
    assert not list((store.folder / checkpoint_prefix("job-1")).iterdir())
    assert checkpoints.newest() is None


def test_a_run_that_is_done_leaves_none_in_a_bucket(s3_url: str, spec: RunSpec) -> None:
    bucket = open_store(s3_url)
    checkpoints = Checkpoints(bucket, spec)
    checkpoints.save(*trained(1))
    bucket.put("jobs/job-1/result", b"stays")
    checkpoints.clear()
    assert [info.key for info in bucket.list("")] == ["jobs/job-1/result"]
