"""What identifies a picture: its bytes' sha256, and a hash of how it looks."""

import hashlib

import numpy as np
from PIL import Image


def sha256_of(data: bytes) -> str:
    """Return the sha256 of original bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(picture: Image.Image) -> int:
    """Return the 64-bit difference hash of an upright picture as a signed integer.

    Each bit says whether a cell of the 9 x 8 grey thumbnail is darker than its right
    neighbour, row by row, most significant first; signed, so that it fits a bigint column.
    """
    # A box filter averages every pixel of a cell: noise and recompression cancel out.
    small = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    bits = np.packbits(grey[:, :-1] < grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big", signed=True)
