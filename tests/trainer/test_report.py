"""The report names every image once in each order, and adds up to what its rows say."""

import math
from collections import Counter
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest

from bearloop.contract.record import ClassEntry
from bearloop.report_file import read_all
from bearloop.store import FolderStore
from trainer.data import Item
from trainer.evaluate import softmax
from trainer.report import Predictions, ranking, report_rows, save_reports, summarise

CLASSES = tuple(
    ClassEntry(id=10 * n, name=name, position=n)
    for n, name in enumerate(["black", "grizzly", "teddy"])
)


def item(number: int, split: str, label: int | None) -> Item:
    sha = f"{number:064x}"
    return Item(sha256=sha, label=label, split=split, group=sha, fold=number % 60)  # type: ignore[arg-type]


def predictions(n: int = 60, *, seed: int = 0, tta: bool = True) -> Predictions:
    rng = np.random.default_rng(seed)
    splits = rng.choice(["train", "valid", "test"], n)
    labels = [None if k % 20 == 3 else int(rng.integers(3)) for k in range(n)]
    return Predictions(
        items=[item(k, str(splits[k]), labels[k]) for k in range(n)],
        classes=CLASSES,
        logits=rng.normal(size=(n, 3)).astype(np.float32) * 3,
        tta=softmax(rng.normal(size=(n, 3))).astype(np.float32) if tta else None,
        out_of_fold=softmax(rng.normal(size=(n, 3)) * 2).astype(np.float32),
    )


def test_the_loss_order_is_the_lessons() -> None:
    rows = list(report_rows(predictions(), "loss"))
    conflicts = [row for row in rows if row.label is None]
    assert rows[: len(conflicts)] == conflicts
    labelled = rows[len(conflicts) :]
    assert list(dict.fromkeys(row.split for row in labelled)) == ["valid", "train", "test"]
    for split in ("valid", "train", "test"):
        losses = [row.loss for row in labelled if row.split == split]
        assert losses == sorted(losses, reverse=True)  # type: ignore[type-var]


def test_the_label_issue_order_puts_conflicts_and_high_scores_first() -> None:
    rows = list(report_rows(predictions(), "label_issue"))
    assert [row.label is None for row in rows[:4]] == [True, True, True, False]
    assert rows[0].label_issue == 1
    scores = [row.label_issue for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_ties_are_ordered_by_sha256() -> None:
    shas = [5, 1, 9, 3]
    same = Predictions(
        items=[item(sha, "valid", 0) for sha in shas],
        classes=CLASSES,
        logits=np.zeros((4, 3), dtype=np.float32),
        tta=None,
        out_of_fold=np.full((4, 3), 1 / 3, dtype=np.float32),
    )
    for order in ("loss", "label_issue"):
        assert [shas[place] for place in ranking(same, order)] == [1, 3, 5, 9]  # type: ignore[arg-type]


def test_a_row_says_what_the_models_said_in_class_ids() -> None:
    made = Predictions(
        items=[item(1, "train", 2)],
        classes=CLASSES,
        logits=np.log(np.array([[0.7, 0.1, 0.2]], dtype=np.float32)),
        tta=np.array([[0.2, 0.5, 0.3]], dtype=np.float32),
        out_of_fold=np.array([[0.1, 0.6, 0.3]], dtype=np.float32),
    )
    row = next(report_rows(made, "loss"))
    assert (row.label, row.predicted, row.tta_predicted, row.oof_predicted) == (20, 0, 10, 10)
    assert row.top_classes == (0, 20, 10)
    assert row.top_probabilities == pytest.approx((0.7, 0.2, 0.1), abs=1e-6)
    assert (row.p_label, row.tta_p_label) == pytest.approx((0.2, 0.3), abs=1e-6)
    assert (row.oof_p_label, row.oof_confidence) == pytest.approx((0.3, 0.6), abs=1e-6)
    assert row.loss == pytest.approx(-math.log(0.2), abs=1e-6)


def test_a_hopeless_prediction_has_a_finite_loss() -> None:
    made = Predictions(
        items=[item(1, "train", 1)],
        classes=CLASSES,
        logits=np.array([[500, 0, 0]], dtype=np.float32),
        tta=None,
        out_of_fold=np.array([[1, 0, 0]], dtype=np.float32),
    )
    row = next(report_rows(made, "loss"))
    assert row.p_label == 0
    assert row.loss == 500
    assert row.label_issue == 1
    assert (row.tta_predicted, row.tta_p_label) == (None, None)


def test_the_summary_adds_up_to_the_rows() -> None:
    made = predictions(400)
    rows = list(report_rows(made, "loss"))
    summary = summarise(made)
    assert summary.classes == (0, 10, 20)
    assert summary.conflicts == sum(row.label is None for row in rows) == 20
    for split, figures in summary.splits.items():
        here = [row for row in rows if row.split == split and row.label is not None]
        wrong = sum(row.predicted != row.label for row in here)
        assert figures.images == figures.error.n == len(here)
        assert figures.error.value == wrong / len(here)
        assert figures.error.low < figures.error.value < figures.error.high
        tta_wrong = sum(row.tta_predicted != row.label for row in here)
        assert figures.tta_error is not None
        assert figures.tta_error.value == tta_wrong / len(here)
        losses = [row.loss for row in here if row.loss is not None]
        assert figures.log_loss == pytest.approx(sum(losses) / len(losses), rel=1e-6)
        half = 1.96 * stdev(losses) / len(losses) ** 0.5
        assert figures.log_loss_low == pytest.approx(max(0, figures.log_loss - half), rel=1e-3)
        assert figures.log_loss_high == pytest.approx(figures.log_loss + half, rel=1e-3)
        counts = Counter((row.label, row.predicted) for row in here)
        for i, line in enumerate(figures.confusion):
            assert list(line) == [counts[10 * i, 10 * j] for j in range(3)]


def test_a_split_without_labelled_images_has_no_figures() -> None:
    made = Predictions(
        items=[item(1, "valid", 0), item(2, "test", None)],
        classes=CLASSES,
        logits=np.zeros((2, 3), dtype=np.float32),
        tta=None,
        out_of_fold=np.full((2, 3), 1 / 3, dtype=np.float32),
    )
    summary = summarise(made)
    assert set(summary.splits) == {"valid"}
    assert summary.splits["valid"].tta_error is None


def test_both_files_hold_every_image_once_in_rank_order(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    made = predictions(150, tta=False)
    keys = save_reports(store, "jobs/7/attempts/a/", made)
    assert sorted(keys) == ["label_issue", "loss"]
    for order, key in keys.items():
        rows = read_all(store, key)
        assert rows == list(report_rows(made, order))
        assert [row.rank for row in rows] == list(range(150))
        assert {row.sha256 for row in rows} == {entry.sha256 for entry in made.items}
