"""A run's curves as tables: one row a step, one row an epoch; beside `curves.json` as Parquet."""

import io
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from bearloop.contract.runs import Curves
from bearloop.store import Store

CURVES_FILE: Final = "curves.json"
STEPS_FILE: Final = "steps.parquet"
EPOCHS_FILE: Final = "epochs.parquet"
STEPS: Final = pa.schema(
    [("step", pa.int64()), ("loss", pa.float64()), ("lr", pa.float64()), ("momentum", pa.float64())]
)
EPOCHS: Final = pa.schema(
    [
        ("stage", pa.string()),
        ("epoch", pa.int64()),
        ("train_loss", pa.float64()),
        ("valid_loss", pa.float64()),
        ("valid_loss_low", pa.float64()),
        ("valid_loss_high", pa.float64()),
        ("error_rate", pa.float64()),
        ("error_low", pa.float64()),
        ("error_high", pa.float64()),
        ("valid_images", pa.int64()),
        ("seconds", pa.float64()),
    ]
)


def save_curves(store: Store, prefix: str, curves: Curves) -> str:
    """Write the curves below `prefix`, as JSON and as tables; return the JSON's key."""
    store.put(prefix + STEPS_FILE, _parquet(steps_table(curves)))
    store.put(prefix + EPOCHS_FILE, _parquet(epochs_table(curves)))
    store.put(prefix + CURVES_FILE, curves.canonical())
    return prefix + CURVES_FILE


def steps_table(curves: Curves) -> pa.Table:
    """Return the optimiser steps, a row each."""
    rows = [point.model_dump(include=set(STEPS.names)) for point in curves.steps]
    return pa.Table.from_pylist(rows, schema=STEPS)


def epochs_table(curves: Curves) -> pa.Table:
    """Return the epochs, a row each, with the ends of both 95 % intervals where known."""
    rows = []
    for point in curves.epochs:
        row = point.model_dump(include=set(EPOCHS.names))
        if point.error is not None:
            sure = {"error_low": point.error.low, "error_high": point.error.high}
            row |= {**sure, "valid_images": point.error.n}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=EPOCHS)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
