"""Our side of a comparison: pictures frozen into a store, and the trainer as a program."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from figures import Trained
from pictures import Picture

from bearloop.contract.manifest import ManifestRow, manifest_digest
from bearloop.contract.recipes import EvaluateStage, FitStage, Recipe
from bearloop.contract.record import ClassEntry
from bearloop.contract.report import ReportRow
from bearloop.contract.runs import RunOutput, RunSpec
from bearloop.manifest_file import write_manifest
from bearloop.report_file import read_page
from bearloop.store import FolderStore, image_key

QUICK = EvaluateStage(tta_views=0, folds=2)
"""What is measured ends with the fit stages: the report is made as small as it can be."""


def put_version(pictures: Sequence[Picture], folder: Path, *, recipe: Recipe, fold: int) -> RunSpec:
    """Store a version whose valid split is one fold, and return what a run on it is told."""
    store = FolderStore(folder)
    names = sorted({one.label for one in pictures})
    classes = tuple(ClassEntry(id=i + 1, name=name, position=i) for i, name in enumerate(names))
    rows = []
    for one in pictures:
        store.put(image_key(one.sha256), one.path.read_bytes())
        rows.append(
            ManifestRow(
                sha256=one.sha256,
                label=names.index(one.label) + 1,
                state="labelled",
                split="valid" if one.fold == fold else "train",
                group=one.sha256,
                fold=int(one.sha256[:8], 16) % 60,
            )
        )
    digest = manifest_digest(classes, rows)
    key = f"versions/{digest}/manifest.parquet"
    store.put(key, write_manifest(rows))
    return RunSpec(
        job="benchmark",
        project="benchmark",
        run=1,
        version_digest=digest,
        manifest_key=key,
        classes=classes,
        recipe=recipe,
        seed=fold + 1,
        device="cpu",
        code_version="benchmark",
    )


def started(spec: RunSpec, folder: Path, *, cache: Path) -> "subprocess.Popen[str]":
    """Start `python -m trainer` on a stored version; what it decodes goes below `cache`."""
    file = folder / "spec.json"
    file.write_text(spec.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "--spec", file, "--store", folder.as_uri()],
        env={**os.environ, "BEARLOOP_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process: "subprocess.Popen[str]") -> RunOutput:
    """Wait for a run that was started; a failed one ends the benchmark."""
    printed, errors = process.communicate()
    if process.returncode:
        sys.exit(errors)
    return RunOutput.model_validate(json.loads(printed)["output"])


def changed(
    recipe: Recipe,
    *,
    weights: Path,
    epochs: int | None = None,
    report: EvaluateStage = QUICK,
    **fields: object,
) -> Recipe:
    """Return a named recipe with other weights and fields, and the quick report or another.

    `epochs` are those of its last fit stage.
    """
    last = max(i for i, stage in enumerate(recipe.stages) if isinstance(stage, FitStage))
    stages = []
    for place, stage in enumerate(recipe.stages):
        if isinstance(stage, EvaluateStage):
            stages.append(report)
        elif isinstance(stage, FitStage) and place == last and epochs is not None:
            stages.append(stage.model_copy(update={"epochs": epochs}))
        else:
            stages.append(stage)
    own = {"weights": weights.resolve().as_uri(), "stages": tuple(stages), **fields}
    return Recipe.model_validate({**recipe.model_dump(), **own})


def fit(pictures: Sequence[Picture], recipe: Recipe, *, fold: int) -> Trained:
    """Train on all but one fold, with nothing cached before."""
    return whole_run(pictures, recipe, fold=fold)[0]


def whole_run(
    pictures: Sequence[Picture], recipe: Recipe, *, fold: int
) -> tuple[Trained, list[ReportRow]]:
    """Train on all but one fold, with nothing cached before; return the fold's report, too."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch, "store")
        store.mkdir()
        spec = put_version(pictures, store, recipe=recipe, fold=fold)
        output = output_of(started(spec, store, cache=Path(scratch, "cache")))
        key = output.report_keys["loss"]
        rows = read_page(FolderStore(store), key, start=0, count=len(pictures))
    wrong = output.summary.splits["valid"].error
    seconds = output.seconds["cache"] + output.seconds["fit"]
    body = output.cost and output.cost.stages.get("features")
    passed = output.seconds["cache"] + body if body else None
    trained = Trained(seconds, round(wrong.value * wrong.n), wrong.n, passed)
    return trained, [row for row in rows if row.split == "valid"]
