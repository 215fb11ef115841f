"""The served model in the store: `bundles/<digest>/{card.json, model.onnx, golden/<n>}`."""

import hashlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from pydantic import ValidationError

from bearloop.contract.bundle import BundleCard
from bearloop.store import MissingObjectError, Store

FORMAT: Final = 1
CARD_FILE: Final = "card.json"
MODEL_FILE: Final = "model.onnx"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_GOLDEN = re.compile(r"golden/[0-9]{1,4}")


class BundleError(Exception):
    """A bundle is not what its name says: which file, what was expected, what was found."""


class Bundle(NamedTuple):
    """A bundle whose every byte agrees with its digest."""

    digest: str
    card: BundleCard
    onnx: bytes
    golden: tuple[bytes, ...]
    """Original bytes of the golden pictures, in the order of `card.golden`."""


def bundle_prefix(digest: str) -> str:
    """Return the prefix of a bundle's files; ends with a slash."""
    return f"bundles/{digest}/"


def golden_file(place: int) -> str:
    """Return the name, inside the bundle, of the golden picture at this place."""
    return f"golden/{place}"


def save_bundle(store: Store, card: BundleCard, *, onnx: bytes, golden: Sequence[bytes]) -> str:
    """Write a bundle and return its digest; raises BundleError if the card does not fit the files.

    Saving again writes the same bytes. The card comes last, so a bundle with a card is whole.
    """
    _check_files(card, onnx=onnx, golden=golden)
    digest = card.digest()
    prefix = bundle_prefix(digest)
    for entry, picture in zip(card.golden, golden, strict=True):
        store.put(prefix + entry.file, picture)
    store.put(prefix + MODEL_FILE, onnx)
    store.put(prefix + CARD_FILE, card.canonical())
    return digest


def load_bundle(store: Store, prefix: str) -> Bundle:
    """Read `…<digest>/` and prove every file against the digest; raises BundleError."""
    digest = prefix.rstrip("/").rpartition("/")[2]
    if not _DIGEST.fullmatch(digest):
        raise BundleError(f"bundle {prefix!r}: the last folder is not a sha256 digest")
    folder = prefix.rstrip("/") + "/"
    card = _read_card(store, folder, digest=digest)
    onnx = _read(store, folder + MODEL_FILE)
    golden = tuple(_read(store, folder + entry.file) for entry in card.golden)
    _check_files(card, onnx=onnx, golden=golden)
    return Bundle(digest, card, onnx, golden)


def _check_files(card: BundleCard, *, onnx: bytes, golden: Sequence[bytes]) -> None:
    if card.format != FORMAT:
        raise BundleError(f"{CARD_FILE}: format {card.format}, this bearloop reads {FORMAT}")
    if len(golden) != len(card.golden):
        raise BundleError(
            f"{CARD_FILE} names {len(card.golden)} golden pictures, not {len(golden)}"
        )
    _check_sha256(MODEL_FILE, onnx, expected=card.onnx_sha256)
    for entry, picture in zip(card.golden, golden, strict=True):
        _check_sha256(entry.file, picture, expected=entry.sha256)
        if len(entry.probabilities) != len(card.classes):
            raise BundleError(
                f"{entry.file}: {len(entry.probabilities)} probabilities for "
                f"{len(card.classes)} classes"
            )


def _check_sha256(name: str, data: bytes, *, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise BundleError(f"{name}: sha256 {found}, the card says {expected}; restore the file")


def _read_card(store: Store, folder: str, *, digest: str) -> BundleCard:
    content = _read(store, folder + CARD_FILE)
    try:
        card = BundleCard.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{folder}{CARD_FILE} is no bundle card: {error}") from error
    if card.digest() != digest:
        raise BundleError(
            f"{folder}{CARD_FILE}: digest {card.digest()}, its folder says {digest}; "
            "the card was changed or moved"
        )
    strange = [entry.file for entry in card.golden if not _GOLDEN.fullmatch(entry.file)]
    if strange:
        raise BundleError(f"{folder}{CARD_FILE}: golden file {strange[0]!r} is not golden/<n>")
    return card


def _read(store: Store, key: str) -> bytes:
    try:
        return store.get(key)
    except MissingObjectError as error:
        raise BundleError(f"the bundle lacks {key}: {error}") from error
