"""The frozen version's images as the trainer sees them, and what makes a version untrainable."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bearloop.contract.manifest import ManifestRow, manifest_digest
from bearloop.contract.recipes import Recipe
from bearloop.contract.report import SplitName
from bearloop.contract.runs import RunSpec
from bearloop.manifest_file import read_manifest
from bearloop.store import MissingObjectError, Store
from trainer.errors import InputError

Labelled = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of the items, and the index of each one's class."""


@dataclass(frozen=True)
class Item:
    """One image of the version; its place in the list is its row in every array of pixels."""

    sha256: str
    label: int | None
    """Index into the spec's classes (not the class id); None for a conflict."""
    split: SplitName
    group: str
    """Sha256 of the first member of its near duplicates."""
    fold: int
    """0..59; a run with k folds uses `fold % k`."""


def load_items(store: Store, spec: RunSpec) -> list[Item]:
    """Read the version's manifest, in sha256 order; raises InputError when it cannot be trained."""
    rows = _read_rows(store, spec)
    indexes = {entry.id: index for index, entry in enumerate(spec.classes)}
    items = [_item(row, indexes) for row in rows]
    check_items(items, [entry.name for entry in spec.classes])
    return items


def check_items(items: Iterable[Item], names: list[str]) -> None:
    """Raise InputError unless two classes or more all have train and valid images."""
    if len(names) < 2:
        raise InputError(
            "too_few_classes",
            f"the version has {len(names)} class{'' if len(names) == 1 else 'es'}",
            field="classes",
            value=", ".join(names),
            way_out="a classifier needs two or more: add one and freeze again",
        )
    counts = Counter((item.split, item.label) for item in items)
    if not any(split == "valid" for split, _ in counts):
        raise InputError(
            "no_valid_split",
            "the version has no valid images",
            field="split",
            value="valid",
            way_out="freeze it with a share of valid images",
        )
    for split in ("train", "valid"):
        _check_split(split, [names[i] for i in range(len(names)) if not counts[split, i]])


def taught(items: Sequence[Item], recipe: Recipe) -> Labelled:
    """Return rows and labels of the images that a run learns from."""
    if recipe.train_on == "all":
        return labelled(items, "train", "valid", "test")
    return labelled(items, "train")


def held_out(items: Sequence[Item], recipe: Recipe) -> Labelled | None:
    """Return rows and labels of the images that each epoch is measured on; None: it is on none."""
    return None if recipe.train_on == "all" else labelled(items, "valid")


def labelled(items: Sequence[Item], *splits: SplitName) -> Labelled:
    """Return rows and labels of the labelled images of some splits: a conflict is in none."""
    pairs = [
        (row, item.label)
        for row, item in enumerate(items)
        if item.split in splits and item.label is not None
    ]
    table = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _read_rows(store: Store, spec: RunSpec) -> list[ManifestRow]:
    try:
        rows = read_manifest(store.get(spec.manifest_key))
    except MissingObjectError as error:
        raise InputError(
            "manifest_missing",
            str(error),
            field="manifest_key",
            value=spec.manifest_key,
            way_out="freeze the version again",
        ) from error
    digest = manifest_digest(spec.classes, rows)
    if digest != spec.version_digest:
        raise InputError(
            "manifest_changed",
            f"the manifest's digest is {digest}, the run was given {spec.version_digest}",
            field="version_digest",
            value=spec.version_digest,
            way_out="the file or the class list was changed; freeze the version again",
        )
    return rows


def _item(row: ManifestRow, indexes: dict[int, int]) -> Item:
    if row.label is not None and row.label not in indexes:
        raise InputError(
            "unknown_class",
            f"image {row.sha256} has class id {row.label}, which the run does not list",
            field="classes",
            value=str(row.label),
            way_out="list every class of the version in the spec",
        )
    label = None if row.label is None else indexes[row.label]
    return Item(sha256=row.sha256, label=label, split=row.split, group=row.group, fold=row.fold)


def _check_split(split: str, missing: list[str]) -> None:
    if not missing:
        return
    quoted = ", ".join(repr(name) for name in missing)
    raise InputError(
        f"class_without_{split}",
        f"no {split} image of {quoted}",
        field="classes",
        value=", ".join(missing),
        way_out="add images of it, merge it into another class or remove it, and freeze again",
    )
