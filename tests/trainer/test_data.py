"""What a version becomes, and which versions are refused by name."""

from pathlib import Path

import pytest

from bearloop.contract.record import ClassEntry
from bearloop.store import FolderStore
from tests.trainer.versions import Picture, picture, pictures, put_version, recipe
from trainer.data import labelled, load_items
from trainer.errors import InputError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def refused(store: FolderStore, rows: list[Picture], *, names: tuple[str, ...]) -> InputError:
    spec = put_version(store, rows, recipe=recipe(), names=names)
    with pytest.raises(InputError) as caught:
        load_items(store, spec)
    return caught.value


def test_labels_are_places_in_the_class_order_not_ids(store: FolderStore) -> None:
    rows = [*pictures(train=2, valid=1), (picture(0, 99), None, "train")]
    spec = put_version(store, rows, recipe=recipe())
    items = load_items(store, spec)
    assert [entry.id for entry in spec.classes] == [70, 80, 90]
    assert {item.label for item in items} == {0, 1, 2, None}
    assert [item.sha256 for item in items] == sorted(item.sha256 for item in items)


def test_a_conflict_is_in_no_split_that_is_learnt_or_measured(store: FolderStore) -> None:
    rows = [*pictures(train=2, valid=1), (picture(0, 99), None, "train")]
    items = load_items(store, put_version(store, rows, recipe=recipe()))
    train, labels = labelled(items, "train")
    assert (len(train), len(labelled(items, "valid")[0]), len(items)) == (6, 3, 10)
    assert [items[row].label for row in train] == list(labels)


def test_a_class_without_train_images_is_refused_by_name(store: FolderStore) -> None:
    rows = [row for row in pictures(train=2, valid=1) if row[1] != 1 or row[2] == "valid"]
    error = refused(store, rows, names=("red", "green", "blue"))
    assert error.problem.code == "class_without_train"
    assert error.problem.value == "green"


def test_classes_without_valid_images_are_refused_by_name(store: FolderStore) -> None:
    rows = [row for row in pictures(train=2, valid=1) if row[1] == 0 or row[2] == "train"]
    error = refused(store, rows, names=("red", "green", "blue"))
    assert error.problem.code == "class_without_valid"
    assert error.problem.value == "green, blue"
    assert "freeze again" in str(error)


def test_a_version_without_valid_split_is_refused(store: FolderStore) -> None:
    error = refused(store, pictures(train=2, valid=0), names=("red", "green", "blue"))
    assert error.problem.code == "no_valid_split"


def test_one_class_is_too_few(store: FolderStore) -> None:
    error = refused(store, pictures(train=2, valid=1, classes=1), names=("red",))
    assert error.problem.code == "too_few_classes"


def test_a_manifest_that_was_changed_is_refused(store: FolderStore) -> None:
    spec = put_version(store, pictures(train=2, valid=1), recipe=recipe())
    other = put_version(store, pictures(train=3, valid=1), recipe=recipe())
    store.put(spec.manifest_key, store.get(other.manifest_key))
    with pytest.raises(InputError, match="digest") as caught:
        load_items(store, spec)
    assert caught.value.problem.code == "manifest_changed"


def test_a_missing_manifest_names_its_key(store: FolderStore) -> None:
    spec = put_version(store, pictures(train=2, valid=1), recipe=recipe())
    store.delete(spec.manifest_key)
    with pytest.raises(InputError, match=spec.manifest_key):
        load_items(store, spec)


def test_a_renamed_class_changes_the_digest(store: FolderStore) -> None:
    spec = put_version(store, pictures(train=2, valid=1), recipe=recipe())
    renamed = (ClassEntry(id=70, name="crimson", position=0), *spec.classes[1:])
    with pytest.raises(InputError, match="digest"):
        load_items(store, spec.model_copy(update={"classes": renamed}))
