"""The perceptual hash: equal for what looks equal, far for what does not."""

import numpy as np
from PIL import Image

from bearloop.preprocess import read_picture
from importer.fingerprints import perceptual_hash, sha256_of
from tests.fixtures.pictures import encoded, photo


def distance(first: int, second: int) -> int:
    return ((first ^ second) & (2**64 - 1)).bit_count()


def test_the_bits_say_where_the_picture_grows_brighter_row_by_row() -> None:
    grey = np.zeros((8, 9), dtype=np.uint8)
    grey[0, 1] = 255  # cell 0 of row 0 is darker than its right neighbour
    grey[7, 8] = 255  # so is the last cell of the last row
    assert perceptual_hash(Image.fromarray(grey)) == -(2**63) + 1


def test_it_fits_a_signed_bigint() -> None:
    brighter = Image.fromarray(np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1)))
    assert perceptual_hash(brighter) == -1
    assert perceptual_hash(Image.new("L", (9, 8))) == 0


def test_resized_and_recompressed_copies_stay_near_and_others_do_not() -> None:
    original = photo(1, (320, 240))
    copy = read_picture(encoded(original.resize((200, 150)), quality=40))
    assert distance(perceptual_hash(original), perceptual_hash(copy)) <= 4
    assert distance(perceptual_hash(original), perceptual_hash(photo(2, (320, 240)))) > 16


def test_sha256_is_the_published_one() -> None:
    assert sha256_of(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")
