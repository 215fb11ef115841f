"""Curves load as tables, those of older runs too."""

import io
from pathlib import Path

import pyarrow.parquet as pq

from bearloop.contract.runs import Curves, EpochPoint, StepPoint
from bearloop.curves_file import save_curves
from bearloop.intervals import wilson
from bearloop.store import FolderStore

OLDER = EpochPoint(
    stage="head", epoch=1, train_loss=0.5, valid_loss=0.4, error_rate=0.25, seconds=2
)
SURE = {"error": wilson(3, 12), "valid_loss_low": 0.1, "valid_loss_high": 0.7}
NEWER = OLDER.model_copy(update={"epoch": 2, **SURE})
STEP = StepPoint(step=1, loss=0.1, lr=0.01, momentum=0.9)


def test_a_row_is_a_step_or_an_epoch(tmp_path: Path) -> None:
    store, curves = FolderStore(tmp_path), Curves(epochs=(OLDER, NEWER), steps=(STEP,))
    assert Curves.model_validate_json(store.get(save_curves(store, "a/", curves))) == curves
    steps, epochs = (
        pq.read_table(io.BytesIO(store.get(f"a/{name}.parquet"))) for name in ("steps", "epochs")
    )
    assert steps.to_pylist() == [STEP.model_dump()]
    older, newer = epochs.to_pylist()
    assert (older["valid_loss"], older["error_low"], older["valid_images"]) == (0.4, None, None)
    assert (newer["error_low"], newer["error_high"]) == (wilson(3, 12).low, wilson(3, 12).high)
    assert newer["valid_images"] == 12
    assert [older[f"valid_loss_{end}"] for end in ("low", "high")] == [None, None]
    assert [newer[f"valid_loss_{end}"] for end in ("low", "high")] == [0.1, 0.7]


def test_an_epoch_that_was_not_measured_has_no_figure(tmp_path: Path) -> None:
    unmeasured = OLDER.model_copy(update={"valid_loss": None, "error_rate": None})
    store, curves = FolderStore(tmp_path), Curves(epochs=(unmeasured, NEWER), steps=())
    assert Curves.model_validate_json(store.get(save_curves(store, "", curves))) == curves
    first, second = pq.read_table(tmp_path / "epochs.parquet").to_pylist()
    assert (first["train_loss"], first["valid_loss"], first["error_rate"]) == (0.5, None, None)
    assert (second["valid_loss"], second["error_rate"]) == (0.4, 0.25)


def test_a_run_that_took_no_step_has_empty_tables(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    save_curves(store, "", Curves(epochs=(), steps=()))
    assert pq.read_table(tmp_path / "steps.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "epochs.parquet").num_rows == 0
