"""A bundle is saved once, and read back only if every byte is what its digest says."""

import hashlib
from pathlib import Path

import pytest

from bearloop.bundle import Bundle, BundleError, bundle_prefix, load_bundle, save_bundle
from bearloop.contract.bundle import BundleCard, Golden, Provenance
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.record import ClassEntry
from bearloop.store import FolderStore

ONNX = b"weights"
PICTURES = (b"first picture", b"second picture")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def card(**changes: object) -> BundleCard:
    golden = tuple(
        Golden(file=f"golden/{n}", sha256=sha256(picture), probabilities=(0.25, 0.75))
        for n, picture in enumerate(PICTURES)
    )
    provenance = Provenance(
        project="bears", version_digest="v", recipe_digest="r", seed=1, code_version="0.1"
    )
    whole = BundleCard(
        model="resnet18",
        classes=(
            ClassEntry(id=7, name="black", position=0),
            ClassEntry(id=9, name="teddy", position=1),
        ),
        preprocess=Preprocess(size=32),
        onnx_sha256=sha256(ONNX),
        golden=golden,
        provenance=provenance,
    )
    return whole.model_copy(update=changes)


def test_what_was_saved_is_loaded(store: FolderStore) -> None:
    digest = save_bundle(store, card(), onnx=ONNX, golden=PICTURES)
    assert digest == card().digest()
    expected = Bundle(digest, card(), ONNX, PICTURES)
    assert load_bundle(store, bundle_prefix(digest)) == expected
    assert load_bundle(store.under("bundles"), digest) == expected


def test_saving_twice_changes_nothing(store: FolderStore) -> None:
    digest = save_bundle(store, card(), onnx=ONNX, golden=PICTURES)
    before = {entry.key: store.get(entry.key) for entry in store.list("")}
    assert save_bundle(store, card(), onnx=ONNX, golden=PICTURES) == digest
    assert {entry.key: store.get(entry.key) for entry in store.list("")} == before
    assert len(before) == 4


@pytest.mark.parametrize("file", ["card.json", "model.onnx", "golden/0", "golden/1"])
def test_a_changed_or_missing_file_is_refused_by_name(store: FolderStore, file: str) -> None:
    digest = save_bundle(store, card(), onnx=ONNX, golden=PICTURES)
    key = bundle_prefix(digest) + file
    original = store.get(key)
    changed = original.replace(b"resnet18", b"resnet34") if file == "card.json" else b"x" + original
    store.put(key, changed)
    with pytest.raises(BundleError, match=file):
        load_bundle(store, bundle_prefix(digest))
    store.delete(key)
    with pytest.raises(BundleError, match=file):
        load_bundle(store, bundle_prefix(digest))


def test_a_bundle_in_a_folder_of_another_digest_is_refused(store: FolderStore) -> None:
    digest = save_bundle(store, card(), onnx=ONNX, golden=PICTURES)
    moved = bundle_prefix("0" * 64)
    for entry in list(store.list(bundle_prefix(digest))):
        store.put(moved + entry.key.removeprefix(bundle_prefix(digest)), store.get(entry.key))
    with pytest.raises(BundleError, match=f"digest {digest}, its folder says 000"):
        load_bundle(store, moved)
    with pytest.raises(BundleError, match="not a sha256 digest"):
        load_bundle(store, "bundles/newest/")


def test_a_card_that_is_no_card_is_refused(store: FolderStore) -> None:
    store.put(bundle_prefix("0" * 64) + "card.json", b"{}")
    with pytest.raises(BundleError, match="no bundle card"):
        load_bundle(store, bundle_prefix("0" * 64))


def test_a_golden_file_outside_its_folder_is_refused(store: FolderStore) -> None:
    astray = Golden(file="../../secret", sha256=sha256(b"s"), probabilities=(1.0, 0.0))
    crafted = card(golden=(astray,))
    store.put(bundle_prefix(crafted.digest()) + "card.json", crafted.canonical())
    with pytest.raises(BundleError, match="golden/<n>"):
        load_bundle(store, bundle_prefix(crafted.digest()))


@pytest.mark.parametrize(
    ("changes", "onnx", "golden", "reason"),
    [
        ({"format": 2}, ONNX, PICTURES, "format 2"),
        ({}, b"other", PICTURES, "model.onnx"),
        ({}, ONNX, PICTURES[:1], "2 golden pictures"),
        ({}, ONNX, PICTURES[::-1], "golden/0"),
        ({"classes": ()}, ONNX, PICTURES, "2 probabilities for 0 classes"),
    ],
)
def test_a_card_that_does_not_fit_its_files_is_never_saved(
    store: FolderStore,
    changes: dict[str, object],
    onnx: bytes,
    golden: tuple[bytes, ...],
    reason: str,
) -> None:
    with pytest.raises(BundleError, match=reason):
        save_bundle(store, card(**changes), onnx=onnx, golden=golden)
    assert list(store.list("")) == []
